"""What commands print: results on standard output, everything else on standard error; and their exit statuses."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anatograph.execution.account import RunAccount

DONE, SOME_FAILED, WRONG_REQUEST, BUG, INTERRUPTED = 0, 1, 2, 70, 130

STATUS = """exit status:
  0  all done
  1  some subjects failed; the others are done and usable
  2  the request itself is wrong; one line says what is wrong and how to fix it"""

_MOST_NOTES, _MOST_FAILURES = 10, 20


def say(text: str) -> None:
    """Print to standard error: progress, notes, warnings and errors."""
    print(text, file=sys.stderr, flush=True)


def counter(name: str, done: int, of: int) -> None:
    """Print progress over subjects."""
    say(f"[{done}/{of}] {name}")


def finish(account: RunAccount | None) -> int:
    """Print the notes and failures of a run and where its account is; return the exit status they amount to."""
    if account is None:
        return DONE
    for note in account.notes[:_MOST_NOTES]:
        say(f"note: {note}")
    for failure in account.failures[:_MOST_FAILURES]:
        say(f"failed: {failure.subject_id} at {failure.stage}: {failure.reason}")
    if len(account.failures) > _MOST_FAILURES:
        say(f"and {len(account.failures) - _MOST_FAILURES} more")
    print(f"Account: {account.path}")
    return account.exit_status
