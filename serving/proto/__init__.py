"""Messages of protocols that no installed package has: `make proto`."""
