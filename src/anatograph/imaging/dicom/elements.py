"""The data elements of a DICOM file up to its pixels: pydicom, behind a guard that checks every length first.

pydicom believes the lengths it meets, and so does GDCM, which takes minutes over a header with a byte missing. pydicom
therefore reads through `_BoundedFile`, and each element is checked before its value is read; what does not hold
together is reported as damaged at once, and only intact files are given to GDCM.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filereader import data_element_generator
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import VR

from anatograph.imaging.dicom.codestream import LONGEST_HEADER

_LONGEST = 1024
"""Bytes of a value that are kept."""
_MOST = 2**26
"""Bytes that are read at once; nothing before the pixels of an image is as large."""
_HEAD = 8
"""Bytes of an element before its value (12 for some value representations)."""
_FRAGMENTS = 16
"""Fragments of compressed pixels among which the first that is not empty must be."""
_UNDEFINED = 0xFFFFFFFF
_PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}
"""FloatPixelData, DoubleFloatPixelData, PixelData."""
_ITEM = (0xFFFE, 0xE000)
_VALUE_REPRESENTATIONS = {vr.value for vr in VR if len(vr.value) == 2}
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
_STRUCTURE = (struct.error, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError,
              RecursionError)  # fmt: skip
"""What pydicom raises where elements do not hold together."""


class DamagedError(Exception):
    """The file does not hold together: a clause that says where."""


@dataclass(frozen=True)
class Elements:
    """The requested elements of one file."""

    values: dict[str, str]
    """Values as text by DICOM keyword; numbers in decimal, several separated by backslashes."""
    transfer_syntax: str
    """TransferSyntaxUID; how the pixels are written."""
    storage_class: str
    """MediaStorageSOPClassUID; what the file says it holds."""
    has_pixels: bool
    """Whether there are pixels."""
    pixel_bytes: int | None
    """Bytes of pixels that are really there; None where they are compressed."""
    stream: bytes = b""
    """The beginning of the first compressed picture, where pixels are compressed."""


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


def read_elements(path: Path, keywords: Iterable[str]) -> Elements | None:
    """Read a file up to its pixels; None where it is not a DICOM file, or deflated as a whole.

    ``keywords`` name elements of the data set itself; those inside sequences are passed over. Raises `DamagedError`
    where an element reaches beyond the file or is none, and OSError where the file cannot be read.
    """
    if not path.is_file():
        return None
    with path.open("rb", buffering=2**14) as raw, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about values: what matters of them is checked by the caller
        start = _start(raw.read(132))
        if start is None:
            return None
        file = _BoundedFile(raw)
        file.seek(start)
        try:
            return _read(file, start, _names(frozenset(keywords)))
        except OSError as error:
            if error.errno is not None:
                raise
            raise DamagedError(f"its elements do not hold together at byte {file.tell()}") from error
        except _STRUCTURE as error:
            raise DamagedError(f"its elements do not hold together at byte {file.tell()}") from error


class _BoundedFile:
    """A file in which reading and seeking beyond the end, or more than `_MOST` bytes at once, is damage."""

    def __init__(self, file: BinaryIO) -> None:
        self.length = file.seek(0, 2)
        self._file = file
        self._at = self.length

    def read(self, count: int) -> bytes:
        left = self.length - self._at
        if count == _HEAD and left < _HEAD:
            rest = self._file.read(left)
            if rest.strip(b"\0"):
                raise DamagedError(f"it ends within an element at byte {self._at}")
            self._at = self.length
            return rest  # a byte or two of padding behind the last element
        self.check(count)
        if count > _MOST:
            raise DamagedError(f"an element of {count} bytes at byte {self._at} cannot be part of a header")
        self._at += count
        return self._file.read(count)

    def seek(self, at: int, whence: int = 0) -> int:
        at += self._at if whence == 1 else 0
        self.check(at - self._at)
        self._at = at
        return self._file.seek(at)

    def tell(self) -> int:
        return self._at

    def check(self, count: int) -> None:
        """Raise DamagedError where fewer than ``count`` bytes follow."""
        if self._at + count > self.length:
            raise DamagedError(f"an element reaches beyond its end at byte {self._at}")


@cache
def _names(keywords: frozenset[str]) -> dict[int, str]:
    """Keywords by tag number."""
    tags = {tag_for_keyword(keyword): keyword for keyword in keywords}
    return {tag: keyword for tag, keyword in tags.items() if tag is not None}


def _start(head: bytes) -> int | None:
    """Where the first element begins: behind the preamble, or at once in old files, which have none."""
    if head[128:132] == b"DICM":
        return 132
    bare = len(head) > 16 and head[:2] in (b"\x08\0", b"\x02\0") and head[3:4] == b"\0" and head[4:5].isalnum()
    return 0 if bare else None


def _read(file: _BoundedFile, start: int, names: dict[int, str]) -> Elements | None:
    def past_meta(tag: int, _: str | None, length: int) -> bool:
        if tag >> 16 == 2:
            file.check(length)
        return tag >> 16 != 2

    meta = {int(one.tag): _text(one, "<") for one in _elements(file, False, "<", past_meta)}
    syntax, storage = meta.get(0x00020010, ""), meta.get(0x00020002, "")
    if start == 0 and not syntax:
        syntax = str(ImplicitVRLittleEndian)
    if syntax == DeflatedExplicitVRLittleEndian:
        return None
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    explicit = _is_explicit(file, syntax)
    guard = _Guard(file, explicit)
    values = {}
    for one in _elements(file, not explicit, order, guard, names):
        if one.tag in names:
            values[names[one.tag]] = _text(one, order)
    if guard.pixels is None:
        if file.length - file.tell() >= 8:
            raise DamagedError(f"there is no element where one should begin, at byte {file.tell()}")
        return Elements(values, syntax, storage, False, 0)
    file.seek(guard.pixels_at)
    if guard.pixels != _UNDEFINED:
        return Elements(values, syntax, storage, True, min(guard.pixels, file.length - file.tell()))
    return Elements(values, syntax, storage, True, None, _first_picture(file, order))


def _elements(
    file: _BoundedFile,
    implicit: bool,
    order: str,
    stop: Callable[[int, str | None, int], bool],
    tags: Iterable[int] = (),
) -> Iterable[RawDataElement]:
    """pydicom's reader from where the file stands, without the sequences."""
    source = cast("BinaryIO", file)
    found = data_element_generator(source, implicit, order == "<", stop, specific_tags=[*tags])
    return (one for one in found if not isinstance(one, DataElement))


class _Guard:
    """Checks each element of the data set before pydicom reads its value, and stops at the pixels."""

    def __init__(self, file: _BoundedFile, explicit: bool) -> None:
        self.file = file
        self.explicit = explicit
        self.pixels: int | None = None
        """Length of the pixels, once they are reached."""
        self.pixels_at = 0
        self._last = 0

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        at = self.file.tell()
        if tag in _PIXELS:
            self.pixels, self.pixels_at = length, at
            return True
        if self.explicit and vr not in _VALUE_REPRESENTATIONS:
            # Some makers write elements of their own without a VR amid those that have one.
            private = bool(tag >> 16 & 1)
            if vr is not None or not private or length == _UNDEFINED:
                raise DamagedError(f"there is no element where one should begin, at byte {at}")
        if not self.explicit and tag <= self._last:
            raise DamagedError(f"its elements are out of order at byte {at}")
        if length != _UNDEFINED:
            self.file.check(length)
        self._last = tag
        return False


def _is_explicit(file: _BoundedFile, syntax: str) -> bool:
    """What the file does, where it does not do what it says: makers have written explicit for implicit."""
    if syntax and syntax != ImplicitVRLittleEndian:
        return True
    at = file.tell()
    head = file.read(min(6, file.length - at))
    file.seek(at)
    return len(head) < 6 or head[4:6].decode("latin-1") in _VALUE_REPRESENTATIONS


def _first_picture(file: _BoundedFile, order: str) -> bytes:
    """The beginning of the first fragment that is not empty, behind the table of offsets."""
    for number in range(_FRAGMENTS):
        *tag, size = struct.unpack(f"{order}HHI", file.read(8))
        if tuple(tag) != _ITEM:
            break
        file.check(size)
        if number and size:
            return file.read(min(size, LONGEST_HEADER))
        file.seek(size, 1)
    raise DamagedError("it holds no compressed picture")


def _text(element: RawDataElement, order: str) -> str:
    data = element.value or b""
    kind = _NUMBERS.get((element.VR or dictionary_VR(element.tag))[:2], "")
    data = data[:_LONGEST]
    if kind:
        width = struct.calcsize(kind)
        count = len(data) // width
        values = struct.unpack(f"{order}{count}{kind}", data[: count * width])
        return "\\".join(f"{value:g}" if kind in "fd" else str(value) for value in values)
    return data.decode("latin-1").strip(" \0")
