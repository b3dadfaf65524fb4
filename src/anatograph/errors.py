"""The one error that a user can fix, and words for messages."""


class UserError(Exception):
    """Something the user gave cannot be used; the message says in one sentence what, where, and how to fix it.

    Commands print the message without a traceback and exit with status 2, or, while working through a cohort, record
    it for that subject and continue.
    """


def counted(number: int, noun: str) -> str:
    """``1 scan``, ``2 scans``."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def plain(text: str) -> str:
    """Text from outside, safe to show in a message: one line, no control characters (a terminal would obey them)."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
