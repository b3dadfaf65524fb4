"""One awkward input: how it is made, and what the user sees of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Way = Literal["scan", "chest", "table"]
"""Read only; prepared whole, as `preprocess` does it; a cohort table."""


@dataclass(frozen=True)
class Case:
    """A row of docs/awkward-scans.md."""

    name: str
    """What it is, as the page says it."""
    way: Way
    build: Callable[[Path], Path]
    """Makes it in an empty folder and returns the path that a cohort table would name."""
    sees: str
    """``usable``, ``usable, flagged: …`` or the line of the refusal; ``…`` stands for anything, SCAN for the path."""

    def fits(self, seen: str) -> bool:
        """Whether an outcome is the one on the page."""
        pattern = ".*".join(re.escape(part) for part in self.sees.split("…"))
        return re.fullmatch(pattern, seen, re.DOTALL) is not None


CASES: list[Case] = []


def case(name: str, sees: str, way: Way = "scan") -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Put the function that makes an input into the table."""

    def add(build: Callable[[Path], Path]) -> Callable[[Path], Path]:
        CASES.append(Case(name, way, build, sees))
        return build

    return add
