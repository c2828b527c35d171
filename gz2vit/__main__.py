"""`python -m gz2vit`: the command line."""

import sys

from gz2vit.cli import main

if __name__ == "__main__":
    sys.exit(main())
