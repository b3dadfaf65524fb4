"""``python -m anatograph.cli``, the form that ``torchrun -m`` needs."""

import sys

from anatograph.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
