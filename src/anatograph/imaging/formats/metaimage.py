"""MetaImage headers (.mha, .mhd)."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from anatograph.errors import UserError
from anatograph.imaging.formats.header import FileHeader, check_data_file, damaged, whole_numbers
from anatograph.limits import MAX_HEADER_BYTES, check_scan_size

_BYTES = {"MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
          "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4,
          "MET_DOUBLE": 8}  # fmt: skip
_KEYS = {
    "ObjectType", "NDims", "BinaryData", "BinaryDataByteOrderMSB", "CompressedData", "CompressedDataSize",
    "CompressionLevel", "TransformMatrix", "Offset", "CenterOfRotation", "AnatomicalOrientation", "ElementSpacing",
    "ElementSize", "DimSize", "ElementType", "ElementNumberOfChannels", "ElementDataFile", "ElementByteOrderMSB",
    "HeaderSize", "Position", "Orientation", "Rotation", "Origin", "ElementMin", "ElementMax", "Modality", "Color",
    "ID", "ParentID", "ITK_InputFilterName", "ITK_original_direction", "ITK_original_spacing", "DistanceUnits",
}  # fmt: skip
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")
"""Three names of the direction matrix."""


def read_metaimage(path: Path) -> FileHeader:
    """The header of a MetaImage file, with its voxels behind it or in one file beside it."""
    with path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
    fields: dict[str, str] = {}
    at = 0
    while "ElementDataFile" not in fields:
        end = head.find(b"\n", at)
        line = head[at : end if end >= 0 else len(head)].decode("latin-1")
        key, sign, value = line.partition("=")
        if not sign:
            raise damaged(path, "no MetaImage header")
        fields[key.strip()] = value.strip()
        at = end + 1
        if end < 0 and "ElementDataFile" not in fields:
            raise damaged(path, "a header without end")
    kind = fields.get("ElementType", "")
    if kind not in _BYTES:
        raise damaged(path, f"unknown type '{kind[:40]}' of voxels")
    channels = whole_numbers(path, fields.get("ElementNumberOfChannels", "1"))
    size = whole_numbers(path, fields.get("DimSize", ""))
    if fields.get("NDims", "") != str(len(size)) or len(channels) != 1 or channels[0] < 1:
        raise damaged(path, f"{fields.get('NDims', '')[:20]} dimensions of {list(size)} voxels")
    if len(size) > 7 or min(size) < 1:
        raise damaged(path, f"impossible dimensions {list(size)}")
    _check_length(path, fields, size, _BYTES[kind] * channels[0], at)
    _check_geometry(path, fields, len(size))
    texts = {key: value for key, value in fields.items() if key not in _KEYS and value}
    return FileHeader(size, _BYTES[kind] * channels[0], texts=texts)


def _check_length(path: Path, fields: dict[str, str], size: tuple[int, ...], width: int, at: int) -> None:
    """Refuse voxels, from byte ``at`` on, that are not all there."""
    for key in ("CompressedDataSize", "HeaderSize"):
        claimed = fields.get(key, "0")
        most = path.stat().st_size * (key != "HeaderSize") + 2**32
        if not re.fullmatch(r"-?[0-9]{1,15}", claimed) or int(claimed) > most:
            raise damaged(path, f"{key} {claimed[:20]}")
    if fields["ElementDataFile"].upper() != "LOCAL":
        check_data_file(path, fields["ElementDataFile"])
    elif fields.get("CompressedData", "False").upper() != "TRUE" and fields.get("HeaderSize", "0") == "0":
        check_scan_size(size, width, str(path))
        needed = math.prod(size) * width
        if path.stat().st_size - at < needed:
            raise damaged(path, f"cut short, {path.stat().st_size - at} bytes of voxels out of {needed}")


def _check_geometry(path: Path, fields: dict[str, str], count: int) -> None:
    """Refuse a header without spacing, which ITK takes as 1, and one whose orientation contradicts its matrix."""
    if "ElementSpacing" not in fields:
        raise UserError(
            f"{path}: the file does not state the distance between its voxels (ElementSpacing is missing); add it, or "
            "convert the scan again from its DICOM files."
        )
    spacing = _numbers(fields["ElementSpacing"])
    if len(spacing) != count or not all(0 < value < math.inf for value in spacing):
        raise UserError(
            f"{path}: ElementSpacing is '{fields['ElementSpacing'][:40]}', which is not a distance in mm for each of "
            f"{count} axes; correct it, or convert the scan again from its DICOM files."
        )
    unit = fields.get("DistanceUnits", "?").lower()
    if unit not in ("?", "mm"):
        raise UserError(f"{path}: its DistanceUnits are {unit[:20]}; save the scan in millimetres (mm).")
    code = fields.get("AnatomicalOrientation", "???").upper()
    if count == 3 and re.fullmatch(r"[RLAPIS]{3}", code):
        written = next((_numbers(fields[key]) for key in _MATRIX if key in fields), [])
        matrix = np.array(written).reshape(3, 3) if len(written) == 9 else np.eye(3)
        if code != (true := _code(matrix)):
            matrix_name = "TransformMatrix" if written else "the lack of a TransformMatrix"
            raise UserError(
                f"{path}: AnatomicalOrientation says {code} and {matrix_name} means {true}, so left and right are "
                "uncertain; correct the one that is wrong, or convert the scan again from its DICOM files."
            )


def _code(rows: np.ndarray) -> str:
    """Where in the patient each axis comes from, as MetaImage names it (RAI for axes along L, P and S)."""
    letters = []
    for axis in rows:  # a row of the file is the direction of one axis
        k = int(np.argmax(np.abs(axis)))
        letters.append("RAI"[k] if axis[k] > 0 else "LPS"[k])
    return "".join(letters)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split()]
    except ValueError:
        return []
