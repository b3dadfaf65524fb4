"""The beginning of a file, unpacked if it is a gzip, unpacking no more than is needed."""

from __future__ import annotations

import zlib
from pathlib import Path

from anatograph.imaging.formats.header import damaged


def beginning(path: Path, count: int) -> bytes:
    """The first ``count`` bytes of a file, unpacked if its name ends in .gz."""
    with path.open("rb") as file:
        if not path.name.lower().endswith(".gz"):
            return file.read(count)
        unpack = zlib.decompressobj(wbits=31)
        found = b""
        try:
            while len(found) < count and (block := file.read(2**14)):
                found += unpack.decompress(block, count - len(found))
                while len(found) < count and unpack.unconsumed_tail:
                    found += unpack.decompress(unpack.unconsumed_tail, count - len(found))
                if unpack.eof:  # the next member of a file that was packed in pieces
                    file.seek(-len(unpack.unused_data), 1)
                    unpack = zlib.decompressobj(wbits=31)
        except zlib.error as error:
            if not found:
                raise damaged(path, f"it is no gzip: {error}") from None
        return found
