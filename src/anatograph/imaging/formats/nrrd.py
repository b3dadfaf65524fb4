"""NRRD headers."""

from __future__ import annotations

import re
from pathlib import Path

from anatograph.errors import UserError
from anatograph.imaging.formats.header import FileHeader, check_data_file, damaged, whole_numbers
from anatograph.limits import MAX_HEADER_BYTES

_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t", "ushort",
                     "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t",
                     "float"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64",
                     "int64_t", "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t",
                     "double"), 8),
}  # fmt: skip
_UNITS = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("um", "µm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 0.001),
}


def read_nrrd(path: Path) -> FileHeader:
    """The header of an NRRD file, attached or detached; with its unit, which ITK ignores."""
    with path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
    if not head.startswith(b"NRRD000"):
        raise damaged(path, "no NRRD header")
    end = re.search(rb"\r?\n\r?\n", head)
    lines = (head[: end.start()] if end else head).decode("latin-1").splitlines()[1:]
    if end is None and len(head) == MAX_HEADER_BYTES:
        raise damaged(path, "a header without end")
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
    kind = fields.get("type", "").lower()
    if kind not in _BYTES:
        raise damaged(path, f"unknown type '{kind[:40]}' of voxels")
    check_data_file(path, fields.get("data file", fields.get("datafile", "")))
    size = whole_numbers(path, fields.get("sizes", ""))
    _check_spacing(path, fields, len(size))
    return FileHeader(size, _BYTES[kind], unit=_unit(path, fields), texts=texts)


def _check_spacing(path: Path, fields: dict[str, str], count: int) -> None:
    """Refuse a file that does not state how far apart its voxels are, or states it twice and differently."""
    if "space" not in fields:
        return  # refused by the reader, as left and right are unknown
    directions = re.findall(r"\(([^()]*)\)|\bnone\b", fields.get("space directions", ""))
    if not any(directions):
        raise UserError(
            f"{path}: the file does not state the distance between its voxels ('space directions' is missing); convert "
            "the scan again from its DICOM files."
        )
    spacings = _numbers(fields.get("spacings", ""))
    if len(spacings) != count or len(directions) != count:
        return
    for stated, text in zip(spacings, directions, strict=True):
        length = sum(part**2 for part in _numbers(text.replace(",", " "))) ** 0.5
        if stated == stated and length > 0 and abs(stated - length) > 1e-3 * length:
            raise UserError(
                f"{path}: 'spacings' says {stated:g} and 'space directions' {length:g} between voxels; correct the "
                "header, or convert the scan again from its DICOM files."
            )


def _unit(path: Path, fields: dict[str, str]) -> tuple[str, float]:
    """The unit of ``space units``, and mm in it."""
    named = re.findall(r'"([^"]*)"', fields.get("space units", "")) or fields.get("space units", "").split()
    units = {unit.strip().lower() for unit in named if unit.strip() and unit.strip() not in ("none", "???")}
    if not units:
        return ("", 1.0)
    known = {_UNITS.get(unit, 0.0) for unit in units}
    if len(known) > 1 or known == {0.0}:
        raise UserError(
            f"{path}: its 'space units' are {', '.join(sorted(units))[:60]}, which are not one unit of length that is "
            "understood; save the scan in millimetres (mm)."
        )
    return min(units), known.pop()


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split()]
    except ValueError:
        return []
