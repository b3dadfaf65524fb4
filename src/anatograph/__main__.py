"""``python -m anatograph``."""

import sys

from anatograph.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
