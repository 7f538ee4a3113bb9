"""Generated messages of the wire: `make proto`."""
