"""A file that is read within its length only, and what is known of one that does not hold together."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO

_MOST = 2**26
"""Bytes that are read at once; nothing before the pixels of an image is as large."""
_MOST_INFLATED = 2**27
"""Bytes to which a deflated file may unpack."""
HEAD = 8
"""Bytes of an element before its value (12 for some value representations)."""


class DamagedError(Exception):
    """The file does not hold together: a clause that says where, and the values read before that."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.values: dict[str, str] = {}
        self.storage_class = ""


class BoundedFile:
    """A file in which reading and seeking beyond the end, or more than `_MOST` bytes at once, is damage."""

    def __init__(self, file: BinaryIO) -> None:
        self.length = file.seek(0, 2)
        self._file = file
        self._at = self.length

    def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes; fewer where only padding of less than an element's head is left."""
        left = self.length - self._at
        if count == HEAD and left < HEAD:
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
        """Go to a byte from the beginning (0) or from here (1)."""
        at += self._at if whence == 1 else 0
        self.check(at - self._at)
        self._at = at
        return self._file.seek(at)

    def tell(self) -> int:
        """The byte at which reading continues."""
        return self._at

    def peek(self, count: int) -> bytes:
        """Up to ``count`` bytes that follow, without going on."""
        found = self._file.read(min(count, self.length - self._at))
        self._file.seek(self._at)
        return found

    def check(self, count: int) -> None:
        """Raise DamagedError where fewer than ``count`` bytes follow."""
        if self._at + count > self.length:
            raise DamagedError(f"an element reaches beyond its end at byte {self._at}")


def inflated(file: BoundedFile) -> BoundedFile:
    """What follows the meta information of a deflated file, unpacked."""
    unpack = zlib.decompressobj(wbits=-15)
    try:
        data = unpack.decompress(file.read(min(file.length - file.tell(), _MOST)), _MOST_INFLATED)
    except zlib.error:
        raise DamagedError(f"its deflated part cannot be unpacked, from byte {file.tell()}") from None
    if not unpack.eof:
        raise DamagedError("its deflated part is cut short, or unpacks to more than any image holds")
    inner = BoundedFile(io.BytesIO(data))
    inner.seek(0)
    return inner
