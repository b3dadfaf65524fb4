"""The one error that a user can fix, and words for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave cannot be used; the message says in one sentence what, where, and how to fix it.

    Commands print the message without a traceback and exit with status 2, or, while working through a cohort, record
    it for that subject and continue.
    """


def no_column(column: str, columns: Iterable[object], flag: str = "", purpose: str = "", role: str = "") -> UserError:
    """The cohort table lacks a column that ``flag`` names; ``columns`` are those that it has.

    The message proposes the column with the most similar name, or lists all where none is similar.
    """
    begin = f"{flag}: the" if flag else "The"
    kind = f"{role} column" if role else "column"
    end = f" {purpose}" if purpose else ""
    names = [str(name) for name in columns]
    near = difflib.get_close_matches(column, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(names)}."
    return UserError(f"{begin} cohort has no {kind} '{column}'{end}; {hint}")


def counted(number: int, noun: str) -> str:
    """``1 scan``, ``2 scans``."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def plain(text: str) -> str:
    """Text from outside, safe to show in a message: one line, no control characters (a terminal would obey them)."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
