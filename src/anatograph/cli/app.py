"""Run one command: parse the line, execute, and turn errors into one sentence and an exit status."""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from anatograph._version import __version__
from anatograph.cli.commands import COMMANDS
from anatograph.cli.output import BUG, INTERRUPTED, STATUS, WRONG_REQUEST, say
from anatograph.cli.parsing import add_command, command_of
from anatograph.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = parser().parse_args(arguments)
    warnings.showwarning = _show_warning
    try:
        status = command_of(args).execute()
        sys.stdout.flush()
        return status
    except UserError as error:
        if args.debug:
            traceback.print_exc()
        say(f"anatograph {args.command}: {error}")
        return WRONG_REQUEST
    except KeyboardInterrupt:
        if args.debug:
            traceback.print_exc()
        say(f"anatograph {args.command}: interrupted; finished work is kept, run the same command again to continue.")
        return INTERRUPTED
    except OSError as error:
        if args.debug:
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        say(f"anatograph {args.command}: {where}{error.strerror or error}; check that it exists and is writable.")
        return WRONG_REQUEST
    except Exception:
        traceback.print_exc()
        say(f"anatograph {args.command}: this is a bug in anatograph {__version__}; please report it.")
        return BUG


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; building it imports nothing heavy."""
    top = argparse.ArgumentParser(
        prog="anatograph",
        description="Anatomy-aware embeddings of chest CT, and what can be predicted from them.",
        epilog=STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"anatograph {__version__}")
    top.add_argument("--debug", action="store_true", default=False, help="show a traceback with every error")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for command in COMMANDS:
        add_command(commands, command)
    return top


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        say(f"warning: {message}")
