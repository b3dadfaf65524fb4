"""The images of a folder divided into series, each of which could be one scan.

A SeriesInstanceUID is not enough: exports write several reconstructions, energies or breath-holds under one, slices of
two of them in turn, and de-identification gives every file a UID of its own or none. Slices are therefore divided by
what must be the same within one scan, wherever it differs among slices of the same stretch of the body.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from anatograph.imaging.checks import MIN_SLICES
from anatograph.imaging.dicom.headers import Slice
from anatograph.imaging.dicom.series import Series, rescale_type, unfit
from anatograph.imaging.dicom.stack import UnusableError, arrange

_SAME_PLACE = 0.01
"""mm; slices nearer than this lie at the same place."""
_OWN = 0.9
"""Share of files with a UID of their own above which it says nothing."""

Key = Callable[[Slice], str]


def _text(keyword: str) -> Key:
    return lambda one: one.value(keyword).upper()


def _number(keyword: str, step: float) -> Key:
    """A number rounded to ``step``, as text, so that digits do not part slices."""

    def key(one: Slice) -> str:
        try:
            return f"{round(float(one.value(keyword)) / step) * step:g}"
        except (ValueError, OverflowError):
            return ""

    return key


_RECONSTRUCTION: dict[str, Key] = {
    "RescaleType": rescale_type,
    "ConvolutionKernel": _text("ConvolutionKernel"),
    "KVP": _number("KVP", 1.0),
}
"""What one scan never has two of."""
_ACQUISITION: dict[str, Key] = {
    "AcquisitionNumber": _text("AcquisitionNumber"),
    "TemporalPositionIdentifier": _text("TemporalPositionIdentifier"),
    "SeriesNumber": _text("SeriesNumber"),
    "ImageType": _text("ImageType"),
    "FrameOfReferenceUID": _text("FrameOfReferenceUID"),
    "SliceThickness": _number("SliceThickness", 0.1),
    "ReconstructionDiameter": _number("ReconstructionDiameter", 1.0),
    "FilterType": _text("FilterType"),
    "ContrastBolusAgent": _text("ContrastBolusAgent"),
    "PatientPosition": _text("PatientPosition"),
}
"""What may change along a scan, but not back and forth."""
_FOLDER: dict[str, Key] = {"folder": lambda one: one.path.parent.as_posix()}
_SHOWN = {"AcquisitionNumber", "TemporalPositionIdentifier", "ConvolutionKernel", "KVP", "SliceThickness", "ImageType",
          "RescaleType", "SeriesNumber"}  # fmt: skip


def group_series(slices: list[Slice]) -> list[Series]:
    """Every series among the images of a folder, in no particular order."""
    found: list[Series] = []
    unusable: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    fit: list[Slice] = []
    for one in slices:
        if reason := unfit(one):
            unusable[one.series_uid, reason].append(one)
        else:
            fit.append(one)
    found += [Series(uid, tuple(group), None, reason) for (uid, reason), group in unusable.items()]
    keys = {keyword: _shared(fit, keyword) for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")}
    remarks = [
        f"every file has a {keyword} of its own; slices were grouped by position and the rest of their headers"
        for keyword, key in keys.items()
        if key is None
    ]
    groups: dict[tuple[str, ...], list[Slice]] = defaultdict(list)
    for one in fit:
        groups[tuple(key(one) if key else "" for key in keys.values())].append(one)
    for (*_, uid), group in sorted(groups.items()):
        without = () if uid else ("the files have no SeriesInstanceUID",) if keys["SeriesInstanceUID"] else ()
        found += _divided(uid, group, (*remarks, *without))
    return found


def _shared(slices: list[Slice], keyword: str) -> Key | None:
    """Groups slices by an identifier; None where every file has its own, which identifies nothing."""
    values = {one.value(keyword) for one in slices}
    own = len(slices) >= MIN_SLICES and len(values) > _OWN * len(slices)
    return None if own else lambda one: one.value(keyword)


def _divided(uid: str, slices: list[Slice], remarks: tuple[str, ...]) -> list[Series]:
    """The slices that share their identifiers, divided into stacks that could be a scan and what is left."""
    kinds: list[list[Slice]] = []
    for one in slices:
        kind = next((kind for kind in kinds if _alike(kind[0], one)), None)
        if kind is None:
            kinds.append(kind := [])
        kind.append(one)
    kinds.sort(key=len, reverse=True)
    if len(kinds) > 1 and len(kinds[1]) >= 0.1 * len(kinds[0]) and parallel(kinds[0][0], kinds[1][0]):
        sizes = sorted({f"{a.size[0]} × {a.size[1]} pixels of {a.pixel[0]:.4g} mm" for (a, *_) in kinds})
        problem = f"images of different kinds are mixed in it ({', '.join(sizes)}); keep the files of one kind"
        return [Series(uid, tuple(kind), None, problem, remarks=remarks) for kind in kinds]
    return [one for kind in kinds for one in _scans(uid, kind, "", remarks)]


def _scans(uid: str, slices: list[Slice], label: str, remarks: tuple[str, ...]) -> list[Series]:
    """The scans among slices of one size, orientation and pixel size."""

    def unusable(problem: str) -> list[Series]:
        return [Series(uid, tuple(slices), None, problem, label, remarks)]

    if problem := _one_place(slices):
        return unusable(problem)
    further = _ACQUISITION if uid else _ACQUISITION | _FOLDER
    for name, key in (_RECONSTRUCTION | further).items():
        parts: dict[str, list[Slice]] = defaultdict(list)
        for one in slices:
            parts[key(one)].append(one)
        if len(parts) == 2 and "" in parts and name in _RECONSTRUCTION:
            continue  # not stated everywhere
        if len(parts) < 2:
            continue
        if not _in_turn(slices, key):
            if name in _RECONSTRUCTION:
                return unusable(f"its slices differ in {name} ({_counts(name, parts)}); keep the files of one")
            if name == "AcquisitionNumber" and min(map(len, parts.values())) >= MIN_SLICES:
                blocks = f"acquired in {len(parts)} blocks, one above the other ({_counts(name, parts)})"
                remarks = (*remarks, f"its slices were {blocks}; the breath may differ where they meet")
            continue
        if name not in _RECONSTRUCTION and sum(_is_even(part) for part in parts.values()) < 2:
            continue
        remark = f"several scans lie in one series, which differ in {name} ({_counts(name, parts)}); one was used"
        return [
            one
            for value in sorted(parts)
            for one in _scans(uid, parts[value], _label(label, name, value), (*remarks, remark))
        ]
    if problem := _numbered_twice(slices) or _rescaled_in_part(slices):
        return unusable(problem)
    remarks = (*remarks, *_rescaled_differently(slices))
    try:
        return [Series(uid, tuple(slices), arrange(slices), "", label, remarks)]
    except UnusableError as error:
        return unusable(str(error))


def parallel(one: Slice, other: Slice) -> bool:
    """Whether two slices have the same orientation."""
    return bool(np.abs(one.direction - other.direction).max() < 2e-3)


def _alike(one: Slice, other: Slice) -> bool:
    near = np.allclose(one.pixel, other.pixel, rtol=1e-3)
    return one.size == other.size and bool(near) and parallel(one, other)


def _ordered(slices: list[Slice]) -> list[Slice]:
    return sorted(slices, key=lambda one: (one.along_normal, one.path.as_posix()))


def _in_turn(slices: list[Slice], key: Key) -> bool:
    """Whether values of ``key`` come back along the body, or two lie at one place, as in two scans of one stretch."""
    ordered = _ordered(slices)
    values = [key(one) for one in ordered]
    changes = sum(a != b for a, b in pairwise(values))
    if changes > len(set(values)) - 1:
        return True
    return any(key(a) != key(b) and b.along_normal - a.along_normal < _SAME_PLACE for a, b in pairwise(ordered))


def _is_even(slices: list[Slice]) -> bool:
    """Whether slices are enough for a scan, and evenly spaced but for a few gaps."""
    if len(slices) < MIN_SLICES:
        return False
    gaps = np.diff(np.sort([one.along_normal for one in slices]))
    middle = float(np.median(gaps))
    return middle > _SAME_PLACE and float((np.abs(gaps - middle) < 0.1 * middle).mean()) > 0.9


def _one_place(slices: list[Slice]) -> str:
    positions = Counter(one.position for one in slices)
    position, count = positions.most_common(1)[0]
    if len(slices) < MIN_SLICES or count <= len(slices) / 2:
        return ""
    return (
        f"{'all' if count == len(slices) else count} of its {len(slices)} slices have the same ImagePositionPatient "
        f"({', '.join(f'{value:g}' for value in position)}), so their order is unknown; export the series again"
    )


def _numbered_twice(slices: list[Slice]) -> str:
    """Why slices numbered twice, in turn along the body, are two scans; empty where they are not."""
    by_number: dict[str, list[float]] = defaultdict(list)
    for one in _ordered(slices):
        if number := one.value("InstanceNumber"):
            by_number[number].append(one.along_normal)
    twice = [places for places in by_number.values() if len(places) == 2 and places[1] - places[0] > _SAME_PLACE]
    if len(twice) < 0.25 * len(slices):
        return ""
    first, second = np.array(twice).T
    # One scan after another along the body, numbered from 1 each, is a scan in two parts.
    if first.max() < second.min():
        return ""
    return "its InstanceNumbers occur twice, so two scans are interleaved in it; keep the files of one"


def _rescaled_in_part(slices: list[Slice]) -> str:
    """Why the slices' numbers have no common meaning in HU; empty where they have one."""
    for keyword in ("RescaleIntercept", "RescaleSlope"):
        missing = sum(not one.value(keyword) for one in slices)
        if 0 < missing < len(slices):
            return (
                f"{keyword} is missing in {missing} of its {len(slices)} slices, so they do not agree in what a number "
                "means; export the series again"
            )
    slope = _number("RescaleSlope", 1e-9)
    if flat := sum(slope(one) in ("0", "-0") for one in slices):
        return (
            f"RescaleSlope is 0 in {flat} of its {len(slices)} slices, which gives every voxel the same value; "
            "export the series again"
        )
    return ""


def _rescaled_differently(slices: list[Slice]) -> tuple[str, ...]:
    found = []
    for keyword in ("RescaleIntercept", "RescaleSlope"):
        key = _number(keyword, 1e-6)
        parts: dict[str, list[Slice]] = defaultdict(list)
        for one in slices:
            parts[key(one)].append(one)
        if len(parts) > 1:
            found.append(f"its slices differ in {keyword} ({_counts('SeriesNumber', parts)}); check the numbers")
    return tuple(found)


def _counts(name: str, parts: dict[str, list[Slice]]) -> str:
    """How many slices have which value, largest first; values are shown where they cannot name a patient."""
    most = sorted(parts.items(), key=lambda part: (-len(part[1]), part[0]))[:4]
    words = [f"{_plain(value)}: {len(part)}" if name in _SHOWN else f"{len(part)}" for value, part in most]
    return ", ".join(words) + (" …" if len(parts) > len(most) else "") + " slices"


def _label(before: str, name: str, value: str) -> str:
    label = f"{name} {_plain(value)}" if name in _SHOWN and name not in ("ConvolutionKernel", "SeriesNumber") else ""
    return ", ".join(part for part in (before, label) if part)


def _plain(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9_+.\\ -]", "?", value)[:24] or "none"
