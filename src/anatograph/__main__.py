"""``python -m anatograph``."""

import sys

from anatograph.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
