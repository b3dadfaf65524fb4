"""Where the small cohort of these tests and what was made of it lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anatograph.anatomy.atlas import Atlas


@dataclass(frozen=True)
class Small:
    """Where everything is."""

    folder: Path
    cohort: Path
    study: Path
    model: Path
    atlas: Atlas
