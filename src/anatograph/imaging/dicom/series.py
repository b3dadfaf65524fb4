"""DICOM folders: which of the series in them is the scan."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anatograph.errors import UserError
from anatograph.imaging.checks import chest_volume
from anatograph.imaging.dicom.headers import Headers, Slice, quiet, read_headers
from anatograph.imaging.dicom.stack import Stack, UnusableError, arrange, load
from anatograph.imaging.volume import Volume

__all__ = ["Series", "choose_series", "inspect_dicom_folder", "list_series", "read_dicom_folder"]

_ENOUGH = 300.0
"""mm; a lung is hardly longer, and a scan that covers more is no better for it."""
_MOST = 0.8
"""Share of the best coverage (or of 300 mm) that a scan must have to be preferred for anything else."""
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LYING = {"P": "prone", "DL": "on the left side", "DR": "on the right side"}
_OTHER_PARTS = {
    "HEAD",
    "BRAIN",
    "SKULL",
    "NECK",
    "ABDOMEN",
    "PELVIS",
    "ABDOMENPELVIS",
    "LSPINE",
    "HIP",
    "KNEE",
    "LEG",
    "EXTREMITY",
}
_READABLE = {
    "", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5",
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91)),
}  # fmt: skip
"""Transfer syntaxes that GDCM reads: plain, RLE, JPEG, JPEG-LS, JPEG 2000."""
_REFORMATTED = {"MPR", "MIP", "MINIP", "REFORMATTED", "PROJECTION IMAGE", "AVERAGE", "CPR", "VRT"}


@dataclass(frozen=True, eq=False)
class Series:
    """Slices of a folder that could be one scan."""

    uid: str
    """SeriesInstanceUID."""
    slices: tuple[Slice, ...]
    """Headers of its files."""
    stack: Stack | None
    """The slices in order; None where they make no scan."""
    problem: str
    """Why they make no scan, as a clause; empty where they do."""

    @property
    def name(self) -> str:
        """The series by number, kernel, count and spacing; never by its description, in which people are named."""
        first = self.slices[0]
        number, kernel = first.value("SeriesNumber"), first.value("ConvolutionKernel")
        if not re.fullmatch(r"[0-9]{1,9}", number):
            number = "#" + hashlib.blake2b(self.uid.encode(), digest_size=3).hexdigest()
        kind = f", kernel {kernel}" if re.fullmatch(r"[A-Za-z0-9_+ .-]{1,16}", kernel) else ""
        count = "1 image" if len(self.slices) == 1 else f"{len(self.slices)} images"
        apart = f", {self.stack.step:.4g} mm apart" if self.stack else ""
        return f"{number} ({count}{apart}{kind})"

    @property
    def is_original(self) -> bool:
        """Whether the images come straight from the scanner, and were not reformatted or projected."""
        kind = self.slices[0].image_type
        return "DERIVED" not in kind and "SECONDARY" not in kind and not _REFORMATTED & set(kind)

    @property
    def is_sharp(self) -> bool:
        """Whether the reconstruction kernel is known to be an edge-enhancing one (lung or bone), as makers name it."""
        kernel = self.slices[0].value("ConvolutionKernel").upper().split("\\")[0]
        siemens = re.fullmatch(r"[BHQITU][A-Z]?(\d\d)[A-Z]?", kernel)
        toshiba = re.match(r"FC(\d\d)", kernel)
        if siemens:
            return int(siemens.group(1)) >= 50
        if toshiba:
            return int(toshiba.group(1)) >= 30
        return kernel in {"LUNG", "BONE", "BONEPLUS", "EDGE", "ULTRA", "D", "E", "L", "YA", "YB", "YC", "YD"}


def list_series(path: str | Path) -> list[Series]:
    """Every series in a folder and the folders below it, the best first, those that make no scan last.

    A CT series is better than another, by the first of these that tells: it covers most of a chest (at least 80 % of
    the longest, or of 300 mm), is axial, original, in need of no repair, thinner, has more slices, was reconstructed
    with no edge-enhancing kernel; then the smaller SeriesInstanceUID, so that the choice is always the same.
    """
    return _ranked(_headers(Path(path)))


def choose_series(path: str | Path) -> list[Series]:
    """Every series of a folder as `list_series` ranks them, the first being the scan; no pixels are read.

    Raises UserError where no series makes a scan, giving the reason for each, and where the folder holds scans of
    several patients or damaged files.
    """
    path = Path(path)
    headers = _headers(path)
    if headers.damaged:
        raise UserError(
            f"{path}: {_images(len(headers.damaged))} cannot be read, the first is {headers.damaged[0][0].name}: "
            f"{headers.damaged[0][1]}; copy the folder again."
        )
    series = _ranked(headers)
    usable = [one for one in series if one.stack]
    if not usable:
        raise UserError(_nothing_usable(path, series))
    patients = {one.slices[0].value("PatientID") for one in usable} - {""}
    if len(patients) > 1:
        raise UserError(
            f"{path}: the folder holds CT scans of {len(patients)} patients (by PatientID); give each patient's folder "
            "by itself."
        )
    return series


def read_dicom_folder(path: str | Path) -> Volume:
    """The chest CT in a folder of DICOM files, as `reading.read_volume` gives it; UserError as `choose_series`."""
    with quiet():
        return _volume(Path(path), choose_series(path))


def inspect_dicom_folder(path: str | Path) -> tuple[str, ...]:
    """What will be flagged of the scan in a folder, from headers alone; UserError as `choose_series`."""
    with quiet():
        chosen = choose_series(path)[0]
    if chosen.stack is None:
        raise ValueError("the first series must be usable")
    return _flags(chosen.stack)


def _volume(path: Path, series: list[Series]) -> Volume:
    chosen = series[0]
    if chosen.stack is None:
        raise ValueError("the first series must be usable")
    array, stored = load(chosen.stack, f"{path}: series {chosen.name}")
    notes = []
    if len(series) > 1:
        others = "; ".join(f"{one.name}: {one.problem or 'comes after it by the rules'}" for one in series[1:])
        notes.append(f"series {chosen.name} was chosen out of {len(series)}; not used: {others}")
    if not chosen.stack.first.is_axial:
        notes.append("the slices are not axial; no axial series was there")
    notes += chosen.stack.repairs
    return chest_volume(array, stored, str(path), tuple(notes), _flags(chosen.stack))


def _flags(stack: Stack) -> tuple[str, ...]:
    return (*stack.repairs, *_doubts(stack.first))


def _doubts(one: Slice) -> list[str]:
    """What the header says that a person should know, in words."""
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
        raise UserError(f"{path}: there is no such folder.")
    with quiet():
        headers = read_headers(path)
    if headers.slices or headers.damaged:
        return headers
    if headers.without_image:
        raise UserError(
            f"{path}: the DICOM files in this folder hold no images that can be read; give the folder with the CT "
            "slices."
        )
    volumes = sorted(p.name for p in path.iterdir() if p.name.lower().endswith((".nii", ".nii.gz", ".nrrd", ".mha")))
    hint = f"; give the file itself, such as {volumes[0]}" if volumes else "; give the folder with the CT slices"
    raise UserError(f"{path}: there are no DICOM files in this folder{hint}.")


def _ranked(headers: Headers) -> list[Series]:
    by_uid: dict[str, list[Slice]] = defaultdict(list)
    for one in headers.slices:
        by_uid[one.series_uid].append(one)
    found = [series for uid in sorted(by_uid) for series in _series(uid, by_uid[uid])]
    longest = max((one.stack.coverage for one in found if one.stack), default=0.0)

    def rank(one: Series) -> tuple[object, ...]:
        if one.stack is None:
            return (1, -len(one.slices), one.uid)
        return (
            0,
            one.stack.coverage < _MOST * min(longest, _ENOUGH),
            not one.stack.first.is_axial,
            not one.is_original,
            bool(one.stack.repairs),
            round(one.stack.step, 2),
            -len(one.stack.planes),
            one.is_sharp,
            one.uid,
            one.slices[0].path.as_posix(),
        )

    return sorted(found, key=rank)


def _series(uid: str, slices: list[Slice]) -> list[Series]:
    """The slices that share a SeriesInstanceUID, parted into stacks that could be a scan and what lies beside them."""
    found: list[Series] = []
    alike: list[list[Slice]] = []
    unfit: dict[str, list[Slice]] = defaultdict(list)
    for one in slices:
        if reason := _unfit(one):
            unfit[reason].append(one)
            continue
        group = next((group for group in alike if _alike(group[0], one)), None)
        if group is None:
            alike.append(group := [])
        group.append(one)
    found.extend(Series(uid, tuple(group), None, reason) for reason, group in unfit.items())
    alike.sort(key=len, reverse=True)
    mixed = len(alike) > 1 and len(alike[1]) >= 0.1 * len(alike[0]) and _parallel(alike[0][0], alike[1][0])
    for group in alike:
        if mixed:
            sizes = sorted({f"{a.size[0]} × {a.size[1]} pixels of {a.pixel[0]:.4g} mm" for (a, *_) in alike})
            problem = f"images of different kinds are mixed in it ({', '.join(sizes)}); keep the files of one kind"
            found.append(Series(uid, tuple(group), None, problem))
            continue
        for part in _repeats(group):
            try:
                found.append(Series(uid, tuple(part), arrange(part), ""))
            except UnusableError as problem:
                found.append(Series(uid, tuple(part), None, str(problem)))
    return found


def _unfit(one: Slice) -> str:
    """Why an image cannot be a slice of a CT scan, whatever lies beside it."""
    kind = one.image_type
    photometric = one.value("PhotometricInterpretation").upper()
    if one.modality != "CT":
        return f"the modality is {one.modality or 'not given'}, not CT"
    if {"LOCALIZER", "SCOUT", "TOPOGRAM"} & set(kind):
        return "it is a localizer (scout), not a scan"
    if one.components != 1 or photometric.startswith(("RGB", "YBR", "PALETTE")):
        return f"it holds colour pictures ({photometric or f'{one.components} numbers a pixel'})"
    if one.value("SOPClassUID").startswith(_SECONDARY_CAPTURE):
        return "it holds screen captures (secondary capture)"
    if one.size[2] > 1:
        return f"{one.path.name} holds {one.size[2]} frames (multi-frame DICOM); convert it to NIfTI, as with dcm2niix"
    if one.transfer_syntax not in _READABLE:
        return f"it is compressed as {one.transfer_syntax}, which is not read; decompress it, as with gdcmconv --raw"
    if photometric == "MONOCHROME1":
        return "its grey values are inverted (MONOCHROME1), as in X-ray pictures and not in CT"
    if not one.is_placed:
        return "its images do not say where they lie (no ImagePositionPatient, ImageOrientationPatient or PixelSpacing)"
    if abs(np.linalg.det(one.direction)) < 1e-3:
        return "the ImageOrientationPatient of its images is degenerate"
    return ""


def _parallel(one: Slice, other: Slice) -> bool:
    return bool(np.abs(one.direction - other.direction).max() < 2e-3)


def _alike(one: Slice, other: Slice) -> bool:
    near = np.allclose(one.pixel, other.pixel, rtol=1e-3)
    return one.size == other.size and bool(near) and _parallel(one, other)


def _repeats(slices: list[Slice]) -> list[list[Slice]]:
    """Part a series that holds several scans of the same place (phases, repeated acquisitions) where a tag tells."""
    if not _has_repeats(slices):
        return [slices]
    for key in ("AcquisitionNumber", "TemporalPositionIdentifier", "ConvolutionKernel", "ImageType"):
        parts: dict[str, list[Slice]] = defaultdict(list)
        for one in slices:
            parts[one.value(key)].append(one)
        if len(parts) > 1 and not any(_has_repeats(part) for part in parts.values()):
            return [parts[value] for value in sorted(parts)]
    return [slices]


def _has_repeats(slices: list[Slice]) -> bool:
    places = np.sort([one.along_normal for one in slices])
    return bool((np.diff(places) < 0.01).any())


def _nothing_usable(path: Path, series: list[Series]) -> str:
    if len(series) == 1:
        return f"{path}: series {series[0].name} is no usable CT scan: {series[0].problem}."
    reasons = "; ".join(f"{one.name}: {one.problem}" for one in series[:6])
    more = f"; and {len(series) - 6} more" if len(series) > 6 else ""
    return f"{path}: none of the {len(series)} series is a usable CT scan: {reasons}{more}."
