"""`python -m thawline` is the command `thawline`."""

import sys

from thawline.cli import main

if __name__ == "__main__":
    sys.exit(main())
