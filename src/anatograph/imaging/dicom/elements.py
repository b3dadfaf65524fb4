"""The data elements of a DICOM file up to its pixels: pydicom, behind a guard that checks every length first.

pydicom believes the lengths it meets, and so does GDCM, which takes minutes over a header with a byte missing. pydicom
therefore reads through `BoundedFile`, and each element is checked before its value is read; what does not hold
together is reported as damaged at once, and only intact files are given to GDCM.
"""

from __future__ import annotations

import struct
import warnings
import zlib
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

from anatograph.imaging.dicom.bounded import HEAD, BoundedFile, DamagedError, inflated
from anatograph.imaging.dicom.codestream import LONGEST_HEADER

_LONGEST = 1024
"""Bytes of a value that are kept."""
_BEGINNING = 256
"""Bytes by which a DICOM file is recognised."""
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
"""What pydicom raises where elements contradict each other."""


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
    pixels_at: int | None = None
    """Byte of the file at which uncompressed pixels begin; None where the file is deflated as a whole."""


def looks_like_dicom(path: Path) -> bool:
    """Whether a regular file begins as DICOM files do, whatever its name."""
    try:
        if not path.is_file():  # a pipe or a device would never answer
            return False
        with path.open("rb") as file:
            head = file.read(_BEGINNING)
    except OSError:
        return False
    return _start(head) is not None


def read_elements(path: Path, keywords: Iterable[str]) -> Elements | None:
    """Read a file up to its pixels; None where it is not a DICOM file.

    ``keywords`` name elements of the data set itself; those inside sequences are passed over. Raises `DamagedError`
    where an element reaches beyond the file or is none, and OSError where the file cannot be read.
    """
    if not path.is_file():
        return None
    with path.open("rb", buffering=2**14) as raw, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about values: what matters of them is checked by the caller
        start = _start(raw.read(_BEGINNING))
        if start is None:
            return None
        file = BoundedFile(raw)
        file.seek(start)
        reading = _Reading(file, start, _names(frozenset(keywords)))
        try:
            return reading.run()
        except DamagedError as error:
            damage = error
        except (OSError, *_STRUCTURE) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            damage = DamagedError(f"its elements are inconsistent at byte {reading.file.tell()}")
        if start == 0 and not reading.values.get("Modality"):
            return None  # it only happened to begin like an old DICOM file
        damage.values, damage.storage_class = reading.values, reading.storage
        raise damage


@cache
def _names(keywords: frozenset[str]) -> dict[int, str]:
    """Keywords by tag number."""
    tags = {tag_for_keyword(keyword): keyword for keyword in keywords}
    return {tag: keyword for tag, keyword in tags.items() if tag is not None}


def is_packed_dicom(path: Path) -> bool:
    """Whether a regular file is a DICOM file inside a gzip."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(2**12)
        return head[:2] == b"\x1f\x8b" and _start(zlib.decompressobj(wbits=31).decompress(head, _BEGINNING)) is not None
    except (OSError, zlib.error):
        return False


def _start(head: bytes) -> int | None:
    """Where the first element begins: behind the preamble, or at once in old files, which have none."""
    if head[128:132] == b"DICM":
        return 132
    if len(head) < 32 or head[:2] not in (b"\x08\0", b"\x02\0"):
        return None
    explicit = head[3:4] == b"\0" and head[4:6].decode("latin-1") in _VALUE_REPRESENTATIONS
    return 0 if explicit or (head[:2] == b"\x08\0" and _begins_implicit(head)) else None


def _begins_implicit(head: bytes) -> bool:
    """Whether the first elements of a file are of group 8, in order and short, without value representations."""
    at, last, count = 0, -1, 0
    while at + HEAD <= len(head):
        group, element, length = struct.unpack_from("<HHI", head, at)
        if group != 8:
            return group > 8 and count > 1
        if element <= last or length > _LONGEST or length % 2:
            return False
        at, last, count = at + HEAD + length, element, count + 1
    return count > 1


class _Reading:
    """One pass over the elements of a file; what was read so far outlasts an error."""

    def __init__(self, file: BoundedFile, start: int, names: dict[int, str]) -> None:
        self.file = file
        self.start = start
        self.names = names
        self.values: dict[str, str] = {}
        self.storage = ""

    def run(self) -> Elements:
        syntax = self._meta()
        deflated = syntax == DeflatedExplicitVRLittleEndian
        if deflated:
            self.file = inflated(self.file)
        file = self.file
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        explicit = _is_explicit(file, syntax)
        guard = _Guard(file, explicit)
        for one in _elements(file, not explicit, order, guard, self.names):
            if one.tag in self.names:
                self.values[self.names[one.tag]] = _text(one, order)
        if guard.pixels is None:
            if file.length - file.tell() >= HEAD:
                raise DamagedError(f"there is no element where one should begin, at byte {file.tell()}")
            return Elements(self.values, syntax, self.storage, False, 0)
        file.seek(guard.pixels_at)
        if guard.pixels != _UNDEFINED:
            there = min(guard.pixels, file.length - file.tell())
            at = None if deflated else guard.pixels_at
            return Elements(self.values, syntax, self.storage, True, there, pixels_at=at)
        return Elements(self.values, syntax, self.storage, True, None, _first_picture(file, order))

    def _meta(self) -> str:
        """The transfer syntax, from group 2."""

        def past_meta(tag: int, _: str | None, length: int) -> bool:
            if tag >> 16 == 2:
                self.file.check(length)
            return tag >> 16 != 2

        syntax = "" if self.start else str(ImplicitVRLittleEndian)
        if self.start or self.file.peek(2) == b"\x02\0":
            for one in _elements(self.file, False, "<", past_meta):
                if one.tag == 0x00020002:  # MediaStorageSOPClassUID
                    self.storage = _text(one, "<")
                elif one.tag == 0x00020010:  # TransferSyntaxUID
                    syntax = _text(one, "<")
        return syntax


def _elements(
    file: BoundedFile,
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

    def __init__(self, file: BoundedFile, explicit: bool) -> None:
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


def _is_explicit(file: BoundedFile, syntax: str) -> bool:
    """What the file does, where it does not do what it says: makers have written explicit for implicit."""
    if syntax and syntax != ImplicitVRLittleEndian:
        return True
    head = file.peek(6)
    return len(head) < 6 or head[4:6].decode("latin-1") in _VALUE_REPRESENTATIONS


def _first_picture(file: BoundedFile, order: str) -> bytes:
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
