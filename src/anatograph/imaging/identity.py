"""Whether a scan's headers still identify a subject. Fields are named, their contents never.

Which DICOM attributes identify a subject is data, `identifying.csv`: those of the Basic Application Level
Confidentiality Profile (DICOM PS3.15, Table E.1-1) that do so by themselves.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from pydicom.datadict import keyword_for_tag

from anatograph.errors import UserError
from anatograph.imaging.dicom.bounded import DamagedError
from anatograph.imaging.dicom.elements import read_elements
from anatograph.imaging.dicom.headers import folder_files
from anatograph.imaging.formats.read import read_file_header

_REMOVED, _BURNED_IN = "PatientIdentityRemoved", "BurnedInAnnotation"


@cache
def _attributes() -> dict[str, frozenset[str]]:
    """Keywords of ``identifying.csv`` by how they are judged: name, number, always, text."""
    text = resources.files("anatograph.imaging").joinpath("identifying.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    kinds = ("name", "number", "always", "text")
    return {kind: frozenset(row["keyword"] for row in rows if row["judged_as"] == kind) for kind in kinds}


_BLANK = re.compile(
    r"\W*|\W*(anon(ymi[sz]ed?|ymous)?|de-?identified|removed|redacted|unknown|none|null|n/?a|no ?name|x+)[\W\d_]*"
    r"|0+(\.0+)?|(1900|1901|1960|1970|2000)0101",
    re.IGNORECASE,
)
"""What de-identification puts in place of a value."""
_RECORD_NUMBER = re.compile(r"\D{0,2}\d{6,}\D?|\d{3}-\d{2}-\d{4}|\d{6}[-+]\d{4}|.*\^.*")
"""A patient number as hospitals and states issue them, rather than a code such as LUNG1-001."""
_KEYS = re.compile(
    r"patient|birth|\bdob\b|\bmrn\b|physician|operator|hospital|institution|address|phone|accession|surname|"
    r"(first|last|family|given)_?name",
    re.IGNORECASE,
)
_PERSON = re.compile(
    r"[^\W\d_]+\^[^\W\d_]+"  # DOE^JANE
    r"|\b[A-Z][a-z'-]+,\s?[A-Z][a-z]+"  # Doe, Jane
    r"|\b(mr|mrs|ms|dr|prof)\.? [A-Z]"
    r"|\b(19|20)\d\d(?P<between>[-/.]?)(0[1-9]|1[0-2])(?P=between)(0[1-9]|[12]\d|3[01])\b"  # 1950-01-31
    r"|\b(0?[1-9]|[12]\d|3[01])[./](0?[1-9]|1[0-2])[./](19|20)\d\d\b"  # 31.01.1950
)
_TWO_WORDS = re.compile(r"^[A-Z][a-z'-]+[ _][A-Z][a-z'-]+$|^[A-Z'-]{2,}[ _][A-Z'-]{2,}$")
_TOOLS = re.compile(
    r"image|volume|scan|chest|lung|mask|ct\b|siemens|philips|toshiba|canon|medical|slicer", re.IGNORECASE
)
_DICOM_KEY = re.compile(r"\(?([0-9a-f]{4})[|,]([0-9a-f]{4})\)?", re.IGNORECASE)


def identifying_fields(path: str | Path, most: int | None = None) -> list[str]:
    """Names of the header fields of a scan or mask that identify a subject, or may; empty where none does.

    DICOM: every file of the folder (the first ``most``, if given), elements at the top level. Fields for names,
    numbers, birth, address and institution must be empty or hold what de-identification puts there; a code in
    PatientName or PatientID passes (``LUNG1-001``), a name (``DOE^JANE``) or a number such as hospitals issue does not,
    unless PatientIdentityRemoved says YES, which lets a number pass but never a name. Burned-in annotations
    (BurnedInAnnotation) are reported too. NIfTI, NRRD, MetaImage: descriptions, comments, extensions and keys that
    read like a name or a date, or are labelled as one.

    Raises:
        UserError: a file or folder that cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        header = read_file_header(path)
        return sorted(set(_in_texts(header.texts)))
    keywords = frozenset({_REMOVED, _BURNED_IN}.union(*_attributes().values()))
    found: set[str] = set()
    for file in folder_files(path)[:most]:
        try:
            elements = read_elements(file, keywords)
        except (DamagedError, OSError):
            continue  # reported when the scan is read
        if elements is not None:
            found.update(_in_dicom(elements.values))
    return sorted(found)


def refuse_identified(path: str | Path) -> None:
    """Raise UserError where the headers of a scan still identify a subject; fields are named, their contents never."""
    found = identifying_fields(path)
    if found:
        shown = ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
        raise UserError(
            f"{path}: the headers still identify the subject ({shown}); de-identify the scan first, or leave out "
            "--deidentified-only."
        )


def _in_dicom(values: Mapping[str, str]) -> Iterator[str]:
    attributes = _attributes()
    removed = values.get(_REMOVED, "").strip().upper() == "YES"
    if values.get(_BURNED_IN, "").strip().upper() == "YES":
        yield "BurnedInAnnotation"
    code = values.get("PatientID", "").strip()
    for name in attributes["name"]:
        value = values.get(name, "").strip(" ^")
        if _is_blank(value) or (value == code and not _RECORD_NUMBER.fullmatch(value)):
            continue
        if (
            name != "PatientName"
            or "^" in value
            or not (removed or re.search(r"\d", value))
            or _reads_like_a_person(value)
        ):
            yield name
    for name in attributes["number"]:
        value = values.get(name, "").strip()
        if _is_blank(value):
            continue
        if _reads_like_a_person(value) or (not removed and _RECORD_NUMBER.fullmatch(value)):
            yield name
    for name in attributes["always"] if removed else attributes["always"] | attributes["text"]:
        if not _is_blank(values.get(name, "")):
            yield name


def _in_texts(texts: Mapping[str, str]) -> Iterator[str]:
    """Fields of a volume file's header; those that carry a DICOM tag are judged as DICOM."""
    values: dict[str, str] = {}
    for key, value in texts.items():
        if match := _DICOM_KEY.search(key):
            values[keyword_for_tag(int("".join(match.groups()), 16))] = value
        elif key == "extension 2":
            yield "extension 2 (a DICOM header)"
        elif _is_blank(value):
            continue
        elif _KEYS.search(key):
            yield "a key that names a person" if not re.fullmatch(r"[\w .:-]{1,40}", key) else key
        elif _reads_like_a_person(value) or _KEYS.search(value):
            yield key if re.fullmatch(r"[\w .:-]{1,40}", key) else "a key of its own"
    yield from _in_dicom(values)


def _is_blank(value: str) -> bool:
    return _BLANK.fullmatch(value.strip()) is not None


def _reads_like_a_person(value: str) -> bool:
    return bool(_PERSON.search(value) or (_TWO_WORDS.match(value.strip()) and not _TOOLS.search(value)))
