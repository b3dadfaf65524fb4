"""What the header of a NIfTI, NRRD or MetaImage file claims, read before ITK is let near the file.

ITK allocates what a header asks for and follows the file names in it; here both are checked first, in a few hundred
bytes and without the voxels. The texts a header carries are kept for `anatograph.imaging.identity`.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from anatograph.errors import UserError
from anatograph.limits import MAX_HEADER_BYTES, check_scan_size

_NIFTI_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 32: 8, 64: 8, 128: 3, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8, 1536: 16,
                1792: 16, 2048: 32, 2304: 4}  # fmt: skip
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t", "ushort",
                     "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t",
                     "float"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64",
                     "int64_t", "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t",
                     "double"), 8),
}  # fmt: skip
_META_BYTES = {"MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
               "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4,
               "MET_DOUBLE": 8}  # fmt: skip
_META_KEYS = {
    "ObjectType", "NDims", "BinaryData", "BinaryDataByteOrderMSB", "CompressedData", "CompressedDataSize",
    "CompressionLevel", "TransformMatrix", "Offset", "CenterOfRotation", "AnatomicalOrientation", "ElementSpacing",
    "ElementSize", "DimSize", "ElementType", "ElementNumberOfChannels", "ElementDataFile", "ElementByteOrderMSB",
    "HeaderSize", "Position", "Orientation", "Rotation", "Origin", "ElementMin", "ElementMax", "Modality", "Color",
    "ID", "ParentID", "ITK_InputFilterName", "ITK_original_direction", "ITK_original_spacing",
}  # fmt: skip


@dataclass(frozen=True)
class FileHeader:
    """The claims of one file."""

    size: tuple[int, ...]
    """Numbers along each axis, the fastest first."""
    bytes_per_voxel: int
    """As stored."""
    spacing: tuple[float, ...] = ()
    """Distance between voxels in the file's unit, where it is simply told."""
    texts: dict[str, str] = field(default_factory=dict)
    """Free texts by field: descriptions, comments, keys that the format does not know."""
    needed: int = 0
    """Bytes that the (unpacked) file must have; 0 where the format leaves that to its reader."""
    floats: tuple[int, str] | None = None
    """Of a NIfTI file with floating-point numbers: the byte they begin at, and their numpy type."""


def read_file_header(path: Path) -> FileHeader:
    """The header of a volume file, by the ending of its name.

    Raises:
        UserError: it is no such header, claims more than `anatograph.limits.max_scan_bytes`, or takes its voxels from
            a file that does not lie beside it.
    """
    name = path.name.lower()
    try:
        if not path.is_file():
            raise UserError(f"{path}: not a regular file; give a file with a scan, or a folder with DICOM files.")
        if name.endswith((".nii", ".nii.gz")):
            header = _nifti(path)
        elif name.endswith((".nrrd", ".nhdr")):
            header = _nrrd(path)
        else:
            header = _metaimage(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); copy the file again.") from None
    if not header.size or len(header.size) > 7 or min(header.size) < 1:
        raise UserError(
            f"{path}: cannot be read (its header claims {list(header.size)} voxels); copy or convert the file again."
        )
    check_scan_size(header.size, header.bytes_per_voxel, str(path))
    return header


def _beginning(path: Path, count: int) -> bytes:
    """The first bytes of a file, unpacked if it is a gzip."""
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
                raise _damaged(path, f"it is no gzip: {error}") from None
        return found


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: cannot be read, damaged or not what its name says ({reason}); copy or convert it again.")


def _nifti(path: Path) -> FileHeader:
    head = _beginning(path, 544)
    for order in "<>":
        if len(head) >= 348 and struct.unpack(f"{order}i", head[:4])[0] == 348:
            return _nifti_1(path, head, order)
        if len(head) >= 540 and struct.unpack(f"{order}i", head[:4])[0] == 540:
            return _nifti_2(path, head, order)
    raise _damaged(path, "empty" if not head else "no NIfTI header")


def _nifti_1(path: Path, head: bytes, order: str) -> FileHeader:
    if head[344:348] == b"ni1\0":
        raise UserError(f"{path}: a header whose voxels lie in another file (.img); save the scan as one file.")
    if head[344:348] != b"n+1\0":
        raise _damaged(path, "no NIfTI header; an Analyze file does not say where left is")
    dimensions = struct.unpack(f"{order}8h", head[40:56])
    (kind,) = struct.unpack(f"{order}h", head[70:72])
    spacing = struct.unpack(f"{order}7f", head[80:108])
    (offset,) = struct.unpack(f"{order}f", head[108:112])
    fields = {"data_type": (4, 14), "db_name": (14, 32), "descrip": (148, 228), "aux_file": (228, 252),
              "intent_name": (328, 344)}  # fmt: skip
    return _nifti_header(path, head, order, dimensions, kind, spacing, offset, fields, 348)


def _nifti_2(path: Path, head: bytes, order: str) -> FileHeader:
    if head[4:8] != b"n+2\0":
        raise _damaged(path, "no NIfTI header")
    (kind,) = struct.unpack(f"{order}h", head[12:14])
    dimensions = struct.unpack(f"{order}8q", head[16:80])
    spacing = struct.unpack(f"{order}7d", head[112:168])
    (offset,) = struct.unpack(f"{order}q", head[168:176])
    fields = {"descrip": (240, 320), "aux_file": (320, 344), "intent_name": (508, 524)}
    return _nifti_header(path, head, order, dimensions, kind, spacing, float(offset), fields, 540)


def _nifti_header(
    path: Path,
    head: bytes,
    order: str,
    dimensions: tuple[int, ...],
    kind: int,
    spacing: tuple[float, ...],
    offset: float,
    fields: dict[str, tuple[int, int]],
    length: int,
) -> FileHeader:
    count = dimensions[0]
    if not 1 <= count <= 7 or min(dimensions[1 : count + 1]) < 1:
        raise _damaged(path, f"impossible dimensions {list(dimensions)}")
    if kind not in _NIFTI_BYTES:
        raise _damaged(path, f"unknown type {kind} of voxels")
    if not length + 4 <= offset <= MAX_HEADER_BYTES or not math.isfinite(offset):
        raise _damaged(path, f"voxels at byte {offset:g}")
    texts = {name: _text(head[start:end]) for name, (start, end) in fields.items()}
    if offset > length + 4:
        texts |= _nifti_extensions(_beginning(path, int(offset)), order, length)
    size = dimensions[1 : count + 1]
    needed = int(offset) + math.prod(size) * _NIFTI_BYTES[kind]
    floats = (int(offset), f"{order}f{_NIFTI_BYTES[kind]}") if kind in (16, 64) else None
    return FileHeader(size, _NIFTI_BYTES[kind], spacing[:count], {k: v for k, v in texts.items() if v}, needed, floats)


def _nifti_extensions(head: bytes, order: str, length: int) -> dict[str, str]:
    """Text of the extensions between header and voxels, by their code."""
    found: dict[str, str] = {}
    at = length + 4
    if head[length : length + 1] in (b"", b"\0"):
        return found
    while at + 8 <= len(head):
        size, code = struct.unpack(f"{order}2i", head[at : at + 8])
        if size < 8:
            break
        found[f"extension {code}"] = _text(head[at + 8 : at + size])
        at += size
    return found


def _nrrd(path: Path) -> FileHeader:
    with path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
    if not head.startswith(b"NRRD000"):
        raise _damaged(path, "no NRRD header")
    end = re.search(rb"\r?\n\r?\n", head)
    lines = (head[: end.start()] if end else head).decode("latin-1").splitlines()[1:]
    if end is None and len(head) == MAX_HEADER_BYTES:
        raise _damaged(path, "a header without end")
    fields: dict[str, str] = {}
    texts: dict[str, str] = {}
    for number, line in enumerate(lines):
        if line.startswith("#"):
            texts[f"comment {number}"] = line[1:].strip()
        elif ":=" in line:
            key, _, value = line.partition(":=")
            texts[key.strip()] = value.strip()
        elif ":" in line:
            key, _, value = line.partition(":")
            fields[key.strip().lower()] = value.strip()
    if fields.get("content"):
        texts["content"] = fields["content"]
    kind = fields.get("type", "")
    if kind.lower() not in _NRRD_BYTES:
        raise _damaged(path, f"unknown type '{kind[:40]}' of voxels")
    _check_data_file(path, fields.get("data file", fields.get("datafile", "")))
    return FileHeader(_whole(path, fields.get("sizes", "")), _NRRD_BYTES[kind.lower()], (), texts)


def _metaimage(path: Path) -> FileHeader:
    with path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
    fields: dict[str, str] = {}
    at = 0
    while "ElementDataFile" not in fields:
        end = head.find(b"\n", at)
        line = head[at : end if end >= 0 else len(head)].decode("latin-1")
        key, sign, value = line.partition("=")
        if not sign:
            raise _damaged(path, "no MetaImage header")
        fields[key.strip()] = value.strip()
        at = end + 1
        if end < 0 and "ElementDataFile" not in fields:
            raise _damaged(path, "a header without end")
    kind = fields.get("ElementType", "")
    if kind not in _META_BYTES:
        raise _damaged(path, f"unknown type '{kind[:40]}' of voxels")
    channels = _whole(path, fields.get("ElementNumberOfChannels", "1"))
    size = _whole(path, fields.get("DimSize", ""))
    if fields.get("NDims", "") != str(len(size)) or len(channels) != 1 or channels[0] < 1:
        raise _damaged(path, f"{fields.get('NDims', '')[:20]} dimensions of {list(size)} voxels")
    for key in ("CompressedDataSize", "HeaderSize"):
        claimed = fields.get(key, "0")
        if (
            not re.fullmatch(r"-?[0-9]{1,15}", claimed)
            or int(claimed) > path.stat().st_size * (key != "HeaderSize") + 2**32
        ):
            raise _damaged(path, f"{key} {claimed[:20]}")
    if fields["ElementDataFile"].upper() != "LOCAL":
        _check_data_file(path, fields["ElementDataFile"])
    elif len(size) > 7 or min(size) < 1:
        raise _damaged(path, f"impossible dimensions {list(size)}")
    elif fields.get("CompressedData", "False").upper() != "TRUE" and fields.get("HeaderSize", "0") == "0":
        check_scan_size(size, _META_BYTES[kind] * channels[0], str(path))
        needed = math.prod(size) * _META_BYTES[kind] * channels[0]
        if path.stat().st_size - at < needed:
            raise _damaged(path, f"cut short, {path.stat().st_size - at} bytes of voxels out of {needed}")
    texts = {key: value for key, value in fields.items() if key not in _META_KEYS and value}
    return FileHeader(size, _META_BYTES[kind] * channels[0], (), texts)


def _check_data_file(path: Path, named: str) -> None:
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


def _whole(path: Path, text: str) -> tuple[int, ...]:
    parts = text.split()
    if not 1 <= len(parts) <= 16 or not all(re.fullmatch(r"[0-9]{1,10}", part) for part in parts):
        raise _damaged(path, f"'{text[:40]}' where numbers of voxels should be")
    return tuple(int(part) for part in parts)


def _text(data: bytes) -> str:
    """Readable text of a field; what stands behind the first zero byte is kept too, as it was not wiped."""
    return re.sub(r"[\0-\x1f\x7f]+", " ", data.decode("latin-1")).strip()
