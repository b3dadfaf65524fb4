"""One DICOM series: images of a folder that could be one scan."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np

from anatograph.imaging.dicom.headers import LOCALIZERS, Slice
from anatograph.imaging.dicom.stack import Stack

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_READABLE = {
    "", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5", *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91)),
}  # fmt: skip
"""Transfer syntaxes that GDCM reads: plain, deflated, RLE, JPEG, JPEG-LS, JPEG 2000."""
_REFORMATTED = {"MPR", "REFORMATTED", "AVERAGE"}
_MAPS = {"IODINE", "IODINE_MAP", "PBV", "PERFUSION", "ZEFF", "Z_EFF", "EFFECTIVE_Z", "RHO", "ELECTRON_DENSITY",
         "MATERIAL", "MATERIAL_FRACTION", "MATERIAL_MAP", "CALCIUM", "WATER", "STONE", "URIC_ACID"}  # fmt: skip
"""Values of ImageType of maps from several energies, whose numbers are not HU even where they look so."""
_PROJECTIONS = {"MIP", "MINIP", "MIN IP", "MNIP", "MAX IP", "MAXIP", "PROJECTION IMAGE", "VRT", "CPR"}
"""Values of ImageType of pictures whose pixels do not belong to one place."""
_ONE_ENERGY = {"VMI", "MONO", "MONOE", "MONOENERGETIC", "MONO_ENERGETIC", "VNC", "VIRTUAL_NON_CONTRAST"}
"""Values of ImageType of images computed from two energies, in HU."""
_UNSPECIFIED = {"US", "HU_MOD"}
"""RescaleTypes that may or may not mean HU."""


@dataclass(frozen=True, eq=False)
class Series:
    """Images of a folder that could be one scan."""

    uid: str
    """SeriesInstanceUID; empty where they share none."""
    slices: tuple[Slice, ...]
    """Headers of its files."""
    stack: Stack | None
    """The slices in order; None where they make no scan."""
    problem: str
    """Why they make no scan, as a clause; empty where they do."""
    label: str = ""
    """What distinguishes it from others under the same UID, such as an acquisition."""
    remarks: tuple[str, ...] = ()
    """What was odd about how its slices were grouped, in words."""

    @property
    def name(self) -> str:
        """The series by number, kernel, count and spacing; never by its description, which may name a patient."""
        first = self.slices[0]
        number, kernel = first.value("SeriesNumber"), first.value("ConvolutionKernel")
        if not re.fullmatch(r"[0-9]{1,9}", number):
            number = "#" + hashlib.blake2b(self.uid.encode(), digest_size=3).hexdigest()
        kind = f", kernel {kernel}" if re.fullmatch(r"[A-Za-z0-9_+ .-]{1,16}", kernel) else ""
        count = "1 image" if len(self.slices) == 1 else f"{len(self.slices)} images"
        apart = f", {self.stack.step:.4g} mm apart" if self.stack else ""
        label = f", {self.label}" if self.label else ""
        return f"{number} ({count}{apart}{kind}{label})"

    @property
    def is_original(self) -> bool:
        """Whether the images come straight from the scanner, and were not reformatted or projected."""
        kind = self.slices[0].image_type
        return "DERIVED" not in kind and "SECONDARY" not in kind and not (_REFORMATTED | _PROJECTIONS) & set(kind)

    @property
    def from_energies(self) -> str:
        """The values of ImageType by which the images were computed from two energies."""
        return ", ".join(sorted(_ONE_ENERGY & set(self.slices[0].image_type)))

    @property
    def is_hounsfield(self) -> bool:
        """Whether its header does not leave the unit open."""
        return rescale_type(self.slices[0]) not in _UNSPECIFIED

    @property
    def is_sharp(self) -> bool:
        """Whether the reconstruction kernel is known to be an edge-enhancing one (lung or bone), by vendors' names."""
        kernel = self.slices[0].value("ConvolutionKernel").upper().split("\\")[0]
        siemens = re.fullmatch(r"[BHQITU][A-Z]?(\d\d)[A-Z]?", kernel)
        toshiba = re.match(r"FC(\d\d)", kernel)
        if siemens:
            return int(siemens.group(1)) >= 50
        if toshiba:
            return int(toshiba.group(1)) >= 30
        return kernel in {"LUNG", "BONE", "BONEPLUS", "EDGE", "ULTRA", "D", "E", "L", "YA", "YB", "YC", "YD"}

    @property
    def from_120_kv(self) -> float:
        """Distance of the tube voltage from 120 kV, at which most chests are scanned; 0 where it is not known."""
        try:
            return abs(float(self.slices[0].value("KVP")) - 120)
        except ValueError:
            return 0.0

    @property
    def acquisition(self) -> float:
        """AcquisitionNumber; 0 where it is not a number."""
        number = self.slices[0].value("AcquisitionNumber")
        return float(number) if re.fullmatch(r"[0-9]{1,9}", number) else 0.0


def rescale_type(one: Slice) -> str:
    """RescaleType in capitals, HU where it is missing or says so in other words."""
    kind = one.value("RescaleType").upper()
    return "HU" if kind in ("", "HU", "H") or kind.startswith("HOUNSFIELD") else kind


def unfit(one: Slice) -> str:
    """Why an image cannot be a slice of a CT scan, whatever lies beside it; empty where it can."""
    kind = set(one.image_type)
    photometric = one.value("PhotometricInterpretation").upper()
    unit = rescale_type(one)
    if one.modality != "CT":
        return f"the modality is {one.modality or 'not given'}, not CT"
    if LOCALIZERS & kind:
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
    if unit != "HU" and unit not in _UNSPECIFIED:
        return f"its numbers are {re.sub(r'[^A-Z0-9_]', '', unit)[:16]} and not Hounsfield units (RescaleType)"
    if _MAPS & kind:
        return f"it is a map and not in Hounsfield units (ImageType {', '.join(sorted(_MAPS & kind))})"
    if _PROJECTIONS & kind:
        return f"it holds projections through several slices (ImageType {', '.join(sorted(_PROJECTIONS & kind))})"
    if not one.is_placed:
        return "its images do not say where they lie (no ImagePositionPatient, ImageOrientationPatient or PixelSpacing)"
    if abs(np.linalg.det(one.direction)) < 1e-3:
        return "the ImageOrientationPatient of its images is degenerate"
    return ""
