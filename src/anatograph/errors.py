"""The one error a user can mend."""


class UserError(Exception):
    """Something the user gave cannot be used; the message says in one sentence what, where, and how to mend it.

    Commands print the message without a traceback and end with status 2, or, where a cohort is being worked
    through, record it for the one subject and go on.
    """


def plain(text: str) -> str:
    """Text from outside as it may stand in a message: one line, no control characters (a terminal would obey them)."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
