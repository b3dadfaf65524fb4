"""DICOM folders: which of the series in them is the scan."""

from __future__ import annotations

import re
from pathlib import Path

from anatograph.errors import UserError
from anatograph.imaging.checks import chest_volume
from anatograph.imaging.dicom.grouping import group_series
from anatograph.imaging.dicom.headers import Damaged, Headers, Slice, quiet, read_headers
from anatograph.imaging.dicom.series import Series
from anatograph.imaging.dicom.stack import Stack, load
from anatograph.imaging.formats.read import suffix_of
from anatograph.imaging.volume import Volume

_ENOUGH = 300.0
"""mm; hardly any lung is longer, so covering more makes a scan no better."""
_MOST = 0.8
"""Share of the best coverage (or of 300 mm) that a scan must have to be preferred for anything else."""
_ANONYMOUS = re.compile(r"\W*(anon\w*|unknown|none|removed|0*|x*)\W*", re.IGNORECASE)
"""PatientIDs that identify no patient."""
_LYING = {"P": "prone", "DL": "on the left side", "DR": "on the right side"}
_OTHER_PARTS = {"HEAD", "BRAIN", "SKULL", "NECK", "ABDOMEN", "PELVIS", "ABDOMENPELVIS", "LSPINE", "HIP", "KNEE", "LEG",
                "EXTREMITY"}  # fmt: skip


def list_series(path: str | Path) -> list[Series]:
    """Every series in a folder and the folders below it, the best first, those that make no scan last.

    A CT series is better than another, by the first of these that differs: it covers most of a chest (at least 80 % of
    the longest, or of 300 mm), is axial, original, in HU by its header, in need of no repair, thinner, has more slices,
    was reconstructed with no edge-enhancing kernel, with a tube voltage nearer 120 kV, has the smaller
    AcquisitionNumber; then the smaller SeriesInstanceUID, so that the choice is always the same.
    """
    return _ranked(_headers(Path(path)))


def choose_series(path: str | Path) -> tuple[list[Series], tuple[str, ...]]:
    """Every series of a folder as `list_series` ranks them, the first being the scan, and what was passed over.

    Raises UserError where no series makes a scan, giving the reason for each, where scans of several patients or
    studies lie in the folder, and where a damaged file may belong to the scan. No pixels are read.
    """
    path = Path(path)
    headers = _headers(path)
    series = _ranked(headers)
    usable = [one for one in series if one.stack]
    needed = [one for one in headers.damaged if not usable or _may_belong(one, usable[0])]
    if needed:
        raise UserError(
            f"{path}: {_images(len(needed))} cannot be read, the first is {needed[0].path.name}: {needed[0].reason}; "
            "copy the folder again."
        )
    if not usable:
        raise UserError(_nothing_usable(path, series, headers.passed))
    for keyword, kind, fix in (("PatientID", "patients", "each patient's folder by itself"),
                               ("StudyInstanceUID", "studies", "the folder of one study"),
                               ("StudyDate", "days", "the folder of one visit")):  # fmt: skip
        found: dict[str, Series] = {}
        for one in usable:
            value = one.slices[0].value(keyword)
            if keyword == "StudyDate" and not value:
                continue  # de-identified: it says nothing
            if not any(f"every file has a {keyword}" in remark for remark in one.remarks):
                found.setdefault(value, one)
        if len(found) > 1:
            names = "; ".join(f"series {one.name}" for one in list(found.values())[:4])
            raise UserError(
                f"{path}: the folder holds CT scans of {len(found)} {kind} (by {keyword}): {names}; give {fix}."
            )
    nameless = [one for one in usable if _is_nameless(one)]
    if len(nameless) > 1:
        names = "; ".join(f"series {one.name}" for one in nameless[:4])
        raise UserError(
            f"{path}: the folder holds {len(nameless)} CT scans without PatientID and StudyInstanceUID: {names}; they "
            "may be of several patients, so give the folder of one scan."
        )
    passed = [f"{one.path.name} beside the scan is damaged ({one.reason}) and was passed over"
              for one in headers.damaged]  # fmt: skip
    return series, (*passed, *headers.passed)


def read_dicom_folder(path: str | Path) -> Volume:
    """The chest CT in a folder of DICOM files, as `reading.read_volume` gives it; UserError as `choose_series`."""
    with quiet():
        series, passed = choose_series(path)
        return _volume(Path(path), series, passed)


def inspect_dicom_folder(path: str | Path) -> tuple[str, ...]:
    """What will be flagged of the scan in a folder, from headers alone; UserError as `choose_series`."""
    with quiet():
        series, passed = choose_series(path)
    return (*_flags(series[0]), *passed)


def _is_nameless(one: Series) -> bool:
    """Whether neither a patient nor a study is known of a series."""
    first = one.slices[0]
    study = first.value("StudyInstanceUID")
    if any("every file has a StudyInstanceUID" in remark for remark in one.remarks):
        study = ""
    return not study and _ANONYMOUS.fullmatch(first.value("PatientID")) is not None


def _may_belong(damaged: Damaged, chosen: Series) -> bool:
    """Whether a damaged image may be a slice of the chosen series."""
    if damaged.is_localizer:
        return False
    values, first = damaged.values, chosen.slices[0]
    for keyword in ("SeriesInstanceUID", "ImageOrientationPatient") if chosen.uid else ("ImageOrientationPatient",):
        known = values.get(keyword, "").strip(" \0")
        if known and first.value(keyword) and known != first.value(keyword):
            return False
    return True


def _volume(path: Path, series: list[Series], passed: tuple[str, ...]) -> Volume:
    chosen = series[0]
    array, stored = load(_stack(chosen), f"{path}: series {chosen.name}")
    notes = []
    if len(series) > 1:
        others = "; ".join(f"{one.name}: {one.problem or 'ranks after it'}" for one in series[1:])
        notes.append(f"series {chosen.name} was chosen out of {len(series)}; not used: {others}")
    if not _stack(chosen).first.is_axial:
        notes.append("the slices are not axial, as there is no axial series")
    notes += _stack(chosen).repairs
    return chest_volume(array, stored, str(path), tuple(notes), (*_flags(chosen), *passed))


def _stack(series: Series) -> Stack:
    if series.stack is None:
        raise ValueError("the first series must be usable")
    return series.stack


def _flags(series: Series) -> tuple[str, ...]:
    unit: tuple[str, ...] = (
        () if series.is_hounsfield else ("its header does not say that the numbers are HU (RescaleType US); check",)
    )
    energies = series.from_energies
    if energies:
        unit = (*unit, f"its images were computed from two energies (ImageType {energies}); densities may differ")
    return (*series.remarks, *unit, *_stack(series).repairs, *_doubts(_stack(series).first))


def _doubts(one: Slice) -> list[str]:
    """What a reader should know of the header, in words."""
    found = []
    position, part = one.value("PatientPosition").upper(), one.value("BodyPartExamined").upper()
    if position[2:] in _LYING:
        found.append(f"the patient lay {_LYING[position[2:]]} (PatientPosition {position})")
    if part in _OTHER_PARTS:
        found.append(f"the header says that the body part is {part}")
    if one.value("ContrastBolusAgent"):
        found.append("a contrast agent was given (ContrastBolusAgent)")
    return found


def _images(count: int) -> str:
    return "1 CT image" if count == 1 else f"{count} CT images"


def _headers(path: Path) -> Headers:
    if not path.is_dir():
        raise UserError(f"{path}: this folder does not exist; check the path.")
    with quiet():
        headers = read_headers(path)
    if headers.slices or headers.damaged:
        return headers
    if headers.passed:
        raise UserError(f"{path}: there are no CT images in this folder: {'; '.join(headers.passed)}.")
    if headers.without_image:
        raise UserError(
            f"{path}: the DICOM files in this folder hold no images that can be read; give the folder with the CT "
            "slices."
        )
    archives = sorted(p.name for p in path.iterdir() if p.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz")))
    volumes = sorted(p.name for p in path.iterdir() if suffix_of(p) is not None)
    if archives:
        raise UserError(f"{path}: there are no DICOM files in this folder; unpack {archives[0]} first.")
    hint = f"; give the file itself, such as {volumes[0]}" if volumes else "; give the folder with the CT slices"
    raise UserError(f"{path}: there are no DICOM files in this folder{hint}.")


def _ranked(headers: Headers) -> list[Series]:
    found = group_series(headers.slices)
    longest = max((one.stack.coverage for one in found if one.stack), default=0.0)

    def rank(one: Series) -> tuple[object, ...]:
        if one.stack is None:
            return (1, -len(one.slices), one.uid)
        return (
            0,
            one.stack.coverage < _MOST * min(longest, _ENOUGH),
            not one.stack.first.is_axial,
            not one.is_original,
            not one.is_hounsfield,
            bool(one.stack.repairs),
            round(one.stack.step, 2),
            -len(one.stack.planes),
            one.is_sharp,
            one.from_120_kv,
            one.acquisition,
            one.uid,
            one.slices[0].path.as_posix(),
        )

    return sorted(found, key=rank)


def _nothing_usable(path: Path, series: list[Series], passed: list[str]) -> str:
    also = f"; besides, {'; '.join(passed)}" if passed else ""
    if len(series) == 1:
        (one,) = series
        remark = f" ({'; '.join(one.remarks)})" if one.remarks else ""
        return f"{path}: series {one.name} is not a usable CT scan{remark}: {one.problem}{also}."
    reasons = "; ".join(f"{one.name}: {one.problem}" for one in series[:6])
    more = f"; and {len(series) - 6} more" if len(series) > 6 else ""
    remarks = sorted({remark for one in series for remark in one.remarks})
    remark = f" ({'; '.join(remarks)})" if remarks else ""
    return f"{path}: none of the {len(series)} series is a usable CT scan{remark}: {reasons}{more}{also}."
