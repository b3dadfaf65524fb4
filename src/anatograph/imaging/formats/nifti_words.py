"""The words and the range in the header of a NIfTI file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_SIZE = 348


@dataclass(frozen=True)
class NiftiWords:
    """What the header of a map says of its numbers; the standard's own fields."""

    description: str
    """``descrip``: at most 79 bytes, cut where longer."""
    intent_name: str
    """``intent_name``: at most 15 bytes."""
    low: float
    """``cal_min``: shown black."""
    high: float
    """``cal_max``: shown white."""
    intent_code: int = 1001
    """NIFTI_INTENT_ESTIMATE, "a parameter estimate, named in intent_name"; 5 is a z score."""


def write_words(path: Path, words: NiftiWords) -> None:
    """Put ``words`` into an uncompressed NIfTI-1 file that ITK wrote, in place.

    The voxels are stored as they are (``scl_slope`` 1, ``scl_inter`` 0), and the free-text fields hold nothing else.
    """
    with path.open("r+b") as file:
        header = bytearray(file.read(_SIZE))
        order = "<" if struct.unpack_from("<i", header)[0] == _SIZE else ">"
        if struct.unpack_from(f"{order}i", header)[0] != _SIZE or header[344:347] != b"n+1":
            raise ValueError(f"{path} is not a NIfTI-1 file")
        for start, length, text in (
            (4, 10, ""),  # data_type
            (14, 18, ""),  # db_name
            (148, 80, words.description),  # descrip
            (228, 24, ""),  # aux_file
            (328, 16, words.intent_name),  # intent_name
        ):
            header[start : start + length] = _cut(text, length - 1).ljust(length, b"\0")
        struct.pack_into(f"{order}h", header, 68, words.intent_code)
        struct.pack_into(f"{order}ff", header, 112, 1.0, 0.0)
        struct.pack_into(f"{order}ff", header, 124, words.high, words.low)
        file.seek(0)
        file.write(header)


def _cut(text: str, length: int) -> bytes:
    """At most ``length`` bytes of ASCII; what is not ASCII becomes a question mark."""
    return text.encode("ascii", "replace")[:length]
