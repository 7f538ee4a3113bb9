"""`python -m inkling.client.batch`, or `python -m client.batch` in a checkout."""

import sys

from .command import main

if __name__ == "__main__":  # Ray's workers import the module that their driver was started with
    sys.exit(main())
