"""The one error a user can mend."""


class UserError(Exception):
    """Something the user gave cannot be used; the message says in one sentence what, where, and how to mend it.

    Commands print the message without a traceback and end with status 2, or, where a cohort is being worked
    through, record it for the one subject and go on.
    """
