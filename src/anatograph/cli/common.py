"""What all commands share: how they are declared, and what they print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

DONE, SOME_FAILED, WRONG_REQUEST, BUG, INTERRUPTED = 0, 1, 2, 70, 130

STATUS = """exit status:
  0  all done
  1  some subjects failed, the rest is done and usable
  2  the request itself is wrong; one line says what and how to mend it"""

Commands = Any  # argparse keeps the type of its subparsers to itself


def command(commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
    """A subparser whose help ends with the exit statuses, and which calls ``run``."""
    made = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.set_defaults(run=run)
    made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show a traceback with an error")
    return made


def told(account: Any) -> int:
    """Print failures, and return the exit status that they mean."""
    if account is None:
        return DONE
    for note in account.notes[:10]:
        say(f"note: {note}")
    for failure in account.failures[:20]:
        say(f"failed: {failure.subject_id} at {failure.stage}: {failure.reason}")
    if len(account.failures) > 20:
        say(f"and {len(account.failures) - 20} more")
    print(f"Account: {account.path}")
    return int(account.exit_status)


def counter(name: str, done: int, of: int) -> None:
    """Progress over subjects."""
    say(f"[{done}/{of}] {name}")


def say(text: str) -> None:
    """Print to standard error, where everything goes that is no result."""
    print(text, file=sys.stderr, flush=True)


def positive(text: str) -> int:
    """An argument that must be 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number
