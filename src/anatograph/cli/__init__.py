"""The command line: `parser` is built from the classes in `commands`, `main` runs one of them."""

from anatograph.cli.app import main, parser

__all__ = ["main", "parser"]
