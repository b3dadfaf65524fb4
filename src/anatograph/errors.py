"""The one error that a user can fix, and words for messages."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave cannot be used; the message says in one sentence what, where, and how to fix it.

    Commands print the message without a traceback and exit with status 2, or, while working through a cohort, record
    it for that subject and continue.
    """


def no_column(column: str, columns: Iterable[object], flag: str = "", purpose: str = "") -> UserError:
    """The cohort table lacks a column that ``flag`` names; ``columns`` are those that it has."""
    begin = f"{flag}: the" if flag else "The"
    end = f" {purpose}" if purpose else ""
    return UserError(f"{begin} cohort has no column '{column}'{end}; it has: {', '.join(map(str, columns))}.")


def counted(number: int, noun: str) -> str:
    """``1 scan``, ``2 scans``."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def plain(text: str) -> str:
    """Text from outside, safe to show in a message: one line, no control characters (a terminal would obey them)."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
