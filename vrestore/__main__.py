"""``python -m vrestore``: the command line."""

import sys

from vrestore.cli import main

if __name__ == "__main__":
    sys.exit(main())
