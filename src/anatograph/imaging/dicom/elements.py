"""The data elements of a DICOM file up to its pixels, read with every length checked against the file.

GDCM takes minutes over a header whose bytes were shifted, as it believes each length it meets. So a file's structure is
walked here first: what is not whole is known as damaged at once, and only whole files are given to GDCM. Nothing but
the elements asked for is kept, and no value is longer than `_LONGEST`.
"""

from __future__ import annotations

import struct
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anatograph.imaging.dicom.codestream import LONGEST_HEADER

_LONGEST = 1024
"""Bytes of a value that are kept."""
_WINDOW = 2**14
_DEEPEST = 16
"""Sequences inside one another; no image has more than a few."""
_UNDEFINED = 0xFFFFFFFF
_PIXELS = {(0x7FE0, 0x0008), (0x7FE0, 0x0009), (0x7FE0, 0x0010)}
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_LONG_VR = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"}
_SHORT_VR = {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL",
             b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}  # fmt: skip
_NUMBERS = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d"}
_IMPLICIT_US = {"0028|0002", "0028|0010", "0028|0011", "0028|0100", "0028|0101", "0028|0103", "0028|0120"}
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"


class DamagedError(Exception):
    """The file does not hold together: a clause that says where."""


@dataclass(frozen=True)
class Elements:
    """What was asked for of one file."""

    tags: dict[str, str]
    """Values as text by ``gggg|eeee``; numbers in decimal, several parted by backslashes."""
    transfer_syntax: str
    """TransferSyntaxUID; how the pixels are written."""
    storage_class: str
    """MediaStorageSOPClassUID; what the file says it holds."""
    has_pixels: bool
    """Whether there are pixels."""
    pixel_bytes: int | None
    """Bytes of pixels that are really there; None where they are compressed."""
    stream: bytes = b""
    """How the first compressed picture begins, where pixels are compressed."""


def looks_like_dicom(path: Path) -> bool:
    """Whether a regular file begins as DICOM files do, whatever its name."""
    try:
        if not path.is_file():  # a pipe or a device would never answer
            return False
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return False
    return _start(head) is not None


def read_elements(path: Path, wanted: Container[str]) -> Elements | None:
    """Walk a file up to its pixels; None where it is no DICOM file, or deflated as a whole (which nobody writes).

    ``wanted`` are tags of the data set itself, as ``gggg|eeee`` in lower case; those inside sequences are passed over.
    Raises `DamagedError` where an element reaches beyond the file or is none, and OSError where it cannot be read.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = _start(file.read(132))
        if start is None:
            return None
        length = file.seek(0, 2)
        walk = _Walk(file, length, wanted)
        return walk.run(start)


def _start(head: bytes) -> int | None:
    """Where the first element begins: behind the preamble, or at once in old files, which have none."""
    if head[128:132] == b"DICM":
        return 132
    bare = len(head) > 16 and head[:2] in (b"\x08\0", b"\x02\0") and head[3:4] == b"\0" and head[4:5].isalnum()
    return 0 if bare else None


class _Walk:
    """A place in the file, read through a window so that a header costs one read."""

    def __init__(self, file: BinaryIO, length: int, wanted: Container[str]) -> None:
        self.file = file
        self.length = length
        self.wanted = wanted
        self.tags: dict[str, str] = {}
        self.order = "<"
        self.explicit = True
        self.at = 0
        self._window = b""
        self._from = 0

    def _take(self, at: int, count: int) -> bytes:
        """``count`` bytes from ``at`` on; fewer at the end of the file."""
        begin = at - self._from
        if begin < 0 or begin + count > len(self._window):
            self.file.seek(at)
            self._window, self._from, begin = self.file.read(max(count, _WINDOW)), at, 0
        return self._window[begin : begin + count]

    def run(self, start: int) -> Elements | None:
        self.at = start
        syntax, storage = self._meta(start)
        if syntax == DEFLATED:
            return None
        self.order = ">" if syntax == BIG_ENDIAN else "<"
        self.explicit = self._is_explicit(syntax)
        pixel_bytes: int | None = 0
        has_pixels = False
        last = (0, 0)
        while (element := self._next()) is not None:
            tag, vr, size, at = element
            if tag in _PIXELS:
                has_pixels = True
                pixel_bytes = None if size == _UNDEFINED else min(size, self.length - at)
                break
            if not self.explicit and tag <= last:
                raise DamagedError(f"its elements are out of order at byte {at}")
            last = tag
            self._value(tag, vr, size, at)
        stream = self._stream() if has_pixels and pixel_bytes is None else b""
        return Elements(self.tags, syntax, storage, has_pixels, pixel_bytes, stream)

    def _stream(self) -> bytes:
        """The beginning of the first fragment that is not empty, behind the table of offsets."""
        for number in range(_DEEPEST):
            element = self._next()
            if element is None or element[0] != _ITEM:
                break
            _, _, size, at = element
            if at + size > self.length:
                raise DamagedError(f"a picture reaches beyond its end at byte {at}")
            if number and size:
                return self._take(at, min(size, LONGEST_HEADER))
            self.at = at + size
        raise DamagedError("it holds no compressed picture")

    def _meta(self, start: int) -> tuple[str, str]:
        """Transfer syntax and storage class of group 2, which is explicit and little-endian; the file stands behind."""
        found = {"0002|0010": "", "0002|0002": ""}
        while self._take(self.at, 2) == b"\x02\0":
            element = self._next()
            if element is None:
                break
            tag, _, size, at = element
            if size == _UNDEFINED or at + size > self.length:
                raise DamagedError(f"an element reaches beyond its end at byte {at}")
            key = _key(tag)
            if key in found:
                found[key] = self._take(at, min(size, _LONGEST)).decode("latin-1").strip(" \0")
            self.at = at + size
        if start == 0 and not found["0002|0010"]:
            found["0002|0010"] = IMPLICIT
        return found["0002|0010"], found["0002|0002"]

    def _is_explicit(self, syntax: str) -> bool:
        """What the file does, where it does not do what it says: makers have written explicit for implicit."""
        head = self._take(self.at, 6)
        if len(head) == 6 and (syntax == IMPLICIT or not syntax):
            return head[4:6] in _LONG_VR | _SHORT_VR
        return True

    def _next(self) -> tuple[tuple[int, int], bytes, int, int] | None:
        """Tag, VR (empty if implicit), length and place of the next value, where ``at`` then is; None at the end."""
        at = self.at
        if at >= self.length:
            return None
        head = self._take(at, 8)
        if len(head) < 8:
            if not head.strip(b"\0"):
                return None  # a byte or two of padding
            raise DamagedError(f"it ends within an element at byte {at}")
        group, number = struct.unpack(f"{self.order}HH", head[:4])
        tag = (group, number)
        if tag[0] == 0xFFFE or not self.explicit:
            (size,) = struct.unpack(f"{self.order}I", head[4:])
            self.at = at + 8
            return tag, b"", size, self.at
        vr = head[4:6]
        if vr in _LONG_VR:
            more = self._take(at + 8, 4)
            if len(more) < 4:
                raise DamagedError(f"it ends within an element at byte {at}")
            (size,) = struct.unpack(f"{self.order}I", more)
            self.at = at + 12
            return tag, vr, size, self.at
        if vr in _SHORT_VR:
            (size,) = struct.unpack(f"{self.order}H", head[6:])
            self.at = at + 8
            return tag, vr, size, self.at
        # Some makers write elements of their own without a VR amid those that have one.
        (size,) = struct.unpack(f"{self.order}I", head[4:])
        if tag[0] % 2 == 0 or size == _UNDEFINED or at + 8 + size > self.length:
            raise DamagedError(f"there is no element where one should begin, at byte {at}")
        self.at = at + 8
        return tag, b"", size, self.at

    def _value(self, tag: tuple[int, int], vr: bytes, size: int, at: int) -> None:
        """Keep a value that is wanted, and go behind it."""
        if size == _UNDEFINED:
            self._sequence(vr, 1)
            return
        if at + size > self.length:
            raise DamagedError(f"an element reaches beyond its end at byte {at}")
        key = _key(tag)
        if key in self.wanted and vr != b"SQ":
            self.tags[key] = self._text(key, vr, self._take(at, min(size, _LONGEST)))
        self.at = at + size

    def _text(self, key: str, vr: bytes, data: bytes) -> str:
        kind = _NUMBERS.get(vr) or ("H" if not vr and key in _IMPLICIT_US else "")
        if kind:
            width = struct.calcsize(kind)
            count = len(data) // width
            values = struct.unpack(f"{self.order}{count}{kind}", data[: count * width])
            return "\\".join(f"{value:g}" if kind in "fd" else str(value) for value in values)
        return data.decode("latin-1").strip(" \0")

    def _sequence(self, vr: bytes, depth: int) -> None:
        """Go behind a sequence whose length is not given, by way of its items."""
        if depth > _DEEPEST:
            raise DamagedError("its sequences are nested too deep")
        explicit = self.explicit
        if vr == b"UN":  # what is inside is then implicit
            self.explicit = False
        try:
            while True:
                element = self._next()
                if element is None:
                    raise DamagedError("a sequence has no end")
                tag, _, size, at = element
                if tag == _SEQUENCE_END:
                    return
                if tag != _ITEM:
                    raise DamagedError(f"a sequence holds something that is no item at byte {at}")
                if size != _UNDEFINED:
                    if at + size > self.length:
                        raise DamagedError(f"an item reaches beyond its end at byte {at}")
                    self.at = at + size
                    continue
                self._item(depth)
        finally:
            self.explicit = explicit

    def _item(self, depth: int) -> None:
        while True:
            element = self._next()
            if element is None:
                raise DamagedError("an item has no end")
            tag, vr, size, at = element
            if tag == _ITEM_END:
                return
            if size == _UNDEFINED:
                self._sequence(vr, depth + 1)
            elif at + size > self.length:
                raise DamagedError(f"an element reaches beyond its end at byte {at}")
            else:
                self.at = at + size


def _key(tag: tuple[int, int]) -> str:
    return f"{tag[0]:04x}|{tag[1]:04x}"
