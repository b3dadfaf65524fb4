"""``python -m anatograph``."""

import sys

from anatograph.cli import main

if __name__ == "__main__":
    sys.exit(main())
