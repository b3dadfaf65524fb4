"""What the header of a volume file claims: its size, its grid, its free texts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from anatograph.errors import UserError
from anatograph.imaging.checks import MAX_SPACING, MIN_SPACING
from anatograph.imaging.volume import Frame


@dataclass(frozen=True)
class FileHeader:
    """The claims of one file."""

    size: tuple[int, ...]
    """Numbers along each axis, the fastest first."""
    bytes_per_voxel: int
    """As stored."""
    frame: Frame | None = None
    """The grid in LPS mm, where ITK does not take it from the file as the format's standard says."""
    unit: tuple[str, float] = ("", 1.0)
    """Unit of length and mm in it, where ITK does not convert it."""
    flags: tuple[str, ...] = ()
    """What is odd about the geometry, in words."""
    texts: dict[str, str] = field(default_factory=dict)
    """Free texts by field: descriptions, comments, keys that the format does not know."""
    needed: int = 0
    """Bytes that the (unpacked) file must have; 0 where the format leaves that to its reader."""
    floats: tuple[int, str] | None = None
    """Of a NIfTI file with floating-point numbers: the byte they begin at, and their numpy type."""


def damaged(path: Path, reason: str) -> UserError:
    """The error for a header that cannot be one."""
    return UserError(f"{path}: cannot be read, damaged or not what its name says ({reason}); copy or convert it again.")


def scale_to_mm(path: Path, unit: tuple[str, float], spacing: ArrayLike) -> float:
    """mm in a file's unit; refused where the unit makes the voxels impossible and millimetres would not."""
    name, scale = unit
    size = np.asarray(spacing, dtype=np.float64)
    possible = [(size * by).min() >= MIN_SPACING and (size * by).max() <= MAX_SPACING for by in (scale, 1.0)]
    if not possible[0] and possible[1]:
        voxel = " × ".join(f"{value * scale:.6g}" for value in size)
        raise UserError(
            f"{path}: its unit of length is {name}, by which the voxels measure {voxel} mm; set the unit to mm if that "
            "is what the numbers are."
        )
    return scale


def plain_text(data: bytes) -> str:
    """Readable text of a field, including what follows the first zero byte, as that was not wiped."""
    return re.sub(r"[\0-\x1f\x7f]+", " ", data.decode("latin-1")).strip()


def whole_numbers(path: Path, text: str) -> tuple[int, ...]:
    """Numbers of voxels separated by blanks."""
    parts = text.split()
    if not 1 <= len(parts) <= 16 or not all(re.fullmatch(r"[0-9]{1,10}", part) for part in parts):
        raise damaged(path, f"'{text[:40]}' where numbers of voxels should be")
    return tuple(int(part) for part in parts)


def check_data_file(path: Path, named: str) -> None:
    """Refuse voxels that are not in one file beside the header, so that a header cannot reach elsewhere."""
    if not named:
        return
    if (
        named.upper().startswith("LIST")
        or "%" in named
        or (len(named.split()) > 1 and not (path.parent / named).is_file())
    ):
        raise UserError(f"{path}: its voxels are spread over several files; save the scan as one file.")
    if Path(named).is_absolute() or ".." in Path(named).parts or "\\" in named:
        raise UserError(
            f"{path}: it takes its voxels from a file elsewhere ({named[:80]}); put that file beside it and name it "
            "without a folder, or save the scan as one file."
        )
