"""`python -m spooled` is the `spooled` command."""

import sys

from spooled.cli import main

if __name__ == "__main__":
    sys.exit(main())
