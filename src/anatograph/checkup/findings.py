"""What `doctor` found: one thing looked at, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

GOOD, POOR, BROKEN = 0, 1, 2
_WORDS = {GOOD: "ok", POOR: "look", BROKEN: "broken"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    status: int
    """0 good, 1 usable with a loss (a scan of several, an odd setting), 2 nothing will work."""
    what: str
    """What was found."""
    mend: str = ""
    """What to do about it."""
    subject_id: str = ""
    """Whose scan, where it is about one."""

    def __str__(self) -> str:
        mark = {GOOD: "ok     ", POOR: "look   ", BROKEN: "BROKEN "}[self.status]
        who = f"{self.subject_id}: " if self.subject_id else ""
        return f"{mark}{who}{self.what}{f' -> {self.mend}' if self.mend else ''}"

    def to_dict(self) -> dict[str, str]:
        """As ``doctor --json`` prints it."""
        about = {"status": _WORDS[self.status], "what": self.what, "mend": self.mend}
        return {**about, "subject_id": self.subject_id} if self.subject_id else about
