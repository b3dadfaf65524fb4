"""A finding of `doctor`: what was checked, and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass

GOOD, POOR, BROKEN = 0, 1, 2
_WORDS = {GOOD: "ok", POOR: "look", BROKEN: "broken"}


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    status: int
    """0 good, 1 usable with a loss (a scan of several, an odd setting), 2 nothing will work."""
    what: str
    """What was found."""
    fix: str = ""
    """How to fix it."""
    subject_id: str = ""
    """Whose scan, where it is about one."""

    def __str__(self) -> str:
        mark = {GOOD: "ok     ", POOR: "look   ", BROKEN: "BROKEN "}[self.status]
        who = f"{self.subject_id}: " if self.subject_id else ""
        return f"{mark}{who}{self.what}{f' -> {self.fix}' if self.fix else ''}"

    def to_dict(self) -> dict[str, str]:
        """As ``doctor --json`` prints it."""
        about = {"status": _WORDS[self.status], "what": self.what, "fix": self.fix}
        return {**about, "subject_id": self.subject_id} if self.subject_id else about
