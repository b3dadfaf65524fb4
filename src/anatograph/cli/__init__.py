"""The commands: arguments in, the function of the same name called, results named; no logic."""

from anatograph.cli.main import main, parser

__all__ = ["main", "parser"]
