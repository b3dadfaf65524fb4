"""How large a compressed picture says it is: decoders allocate by that, and not by the DICOM header."""

from __future__ import annotations

import struct

LONGEST_HEADER = 2**14
"""Bytes of a stream in which its size must stand."""
_SIZES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG (SOF0 … SOF15) and JPEG-LS (SOF55) that begin with the size of the picture."""


def picture_size(stream: bytes) -> tuple[int, int] | None:
    """Columns and rows of a JPEG, JPEG-LS or JPEG 2000 stream, from its beginning; None where it has none."""
    if stream[:4] == b"\xff\x4f\xff\x51" and len(stream) >= 24:
        right, lower, left, upper = struct.unpack(">4I", stream[8:24])
        return right - left, lower - upper
    if stream[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(stream):
        if stream[at] != 0xFF:
            at += 1  # what decoders skip too
            continue
        marker = stream[at + 1]
        if marker in _SIZES:
            rows, columns = struct.unpack(">2H", stream[at + 5 : at + 9])
            return columns, rows
        if marker in (0x00, 0x01, 0xD8, 0xFF) or 0xD0 <= marker <= 0xD7:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + struct.unpack(">H", stream[at + 2 : at + 4])[0]
    return None
