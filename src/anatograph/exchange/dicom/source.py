"""The DICOM series of a subject's scan, in which results are placed."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import UID

from anatograph.errors import UserError
from anatograph.imaging.dicom.choice import choose_series
from anatograph.imaging.dicom.headers import quiet
from anatograph.imaging.dicom.stack import Stack
from anatograph.imaging.volume import Frame

_IDENTIFYING = (
    "PatientName", "PatientBirthDate", "PatientBirthTime", "OtherPatientIDs", "OtherPatientNames", "PatientAddress",
    "PatientTelephoneNumbers", "PatientMotherBirthName", "PatientBirthName", "MilitaryRank", "ReferringPhysicianName",
    "PhysiciansOfRecord", "PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "OperatorsName",
    "RequestingPhysician", "InstitutionName", "InstitutionAddress", "ResponsiblePerson", "IssuerOfPatientID",
)  # fmt: skip
"""Elements that name a person or a place (PS3.15, Basic Application Confidentiality Profile)."""


@dataclass(frozen=True, eq=False)
class Source:
    """The slices of a scan, headers only, one for each plane of its frame."""

    slices: tuple[pydicom.Dataset, ...]
    """In the order of the planes; shorter than the frame where slices were missing."""
    aligned: bool
    """Whether plane k of the frame is slice k, pixel for pixel; not so after a repair or a gantry tilt."""
    notes: tuple[str, ...]
    """What was filled in where a header lacks it."""

    @property
    def first(self) -> pydicom.Dataset:
        """The slice of the first plane."""
        return self.slices[0]

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return str(self.first.SeriesInstanceUID)

    def uid(self, *words: str) -> UID:
        """A UID that is the same for the same scan and the same words (2.25 and a UUID of version 5)."""
        return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join((self.series_uid, *words))).int}")


def read_source(folder: Path, frame: Frame, identified: bool) -> Source:
    """The slices that a scan was read from, whose stack is ``frame``.

    Raises:
        UserError: not a DICOM folder, a scan that is not the study's, headers without what places a result in a study,
            or patient data where ``identified`` does not allow it.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a DICOM folder, so there is no DICOM study to place results in; preprocess the scan "
            "from its DICOM files."
        )
    with quiet():
        series, _ = choose_series(folder)
    stack = series[0].stack
    if stack is None or len(stack.planes) != frame.shape[0]:
        raise UserError(f"{folder} holds a different scan from the study's; preprocess this subject again.")
    with warnings.catch_warnings():  # elements are decoded when they are first looked at; notes say what matters
        warnings.filterwarnings("ignore", message="Invalid value for VR")
        slices = [pydicom.dcmread(one.path, stop_before_pixels=True) for one in stack.planes if one is not None]
        missing = [key for key in ("StudyInstanceUID", "SeriesInstanceUID") if not slices[0].get(key)]
        instances = {str(one.get("SOPInstanceUID", "")) for one in slices}
    if not identified:
        _refuse_identified(slices[0], folder)
    if missing or len(instances) < len(slices):
        lacking = ", ".join(missing) or "a SOPInstanceUID of each slice"
        raise UserError(
            f"{folder}: its headers lack {lacking}, so results cannot refer to it; restore the "
            "headers, or use --to slicer, which needs none."
        )
    return Source(tuple(slices), _is_aligned(slices, stack, frame), tuple(_complete(slices)))


def _refuse_identified(header: pydicom.Dataset, folder: Path) -> None:
    """Refuse a header that still names a patient; values are not shown."""
    if str(header.get("PatientIdentityRemoved", "")).upper() == "YES" or header.get("DeidentificationMethod"):
        return
    found = [key for key in _IDENTIFYING if str(header.get(key, "")).strip(" ^")]
    if found == ["PatientName"] and str(header.PatientName) == str(header.get("PatientID", "")):
        return  # a pseudonym
    if found:
        raise UserError(
            f"{folder} is not de-identified (it has {', '.join(found[:4])}, and PatientIdentityRemoved is not YES); "
            "de-identify it, or give --identified to copy the patient's data into the results."
        )


def _complete(slices: Sequence[pydicom.Dataset]) -> list[str]:
    """Fill in what DICOM requires and viewers need, and say so."""
    notes = []
    uid = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, str(slices[0].SeriesInstanceUID) + '/frame').int}"
    if not slices[0].get("FrameOfReferenceUID"):
        notes.append("the scan has no FrameOfReferenceUID, so the results have one of their own")
        for one in slices:
            one.FrameOfReferenceUID = uid
    if not UID(str(slices[0].StudyInstanceUID)).is_valid:
        notes.append("the scan's StudyInstanceUID is not a valid UID; it was copied as it is")
    for one in slices:
        for key in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
                    "AccessionNumber", "ReferringPhysicianName"):  # fmt: skip
            if key not in one:
                setattr(one, key, "")
    return notes


def _is_aligned(slices: Sequence[pydicom.Dataset], stack: Stack, frame: Frame) -> bool:
    first = slices[0]
    if len(slices) != frame.shape[0] or stack.shifts.any() or (first.Rows, first.Columns) != frame.shape[1:]:
        return False
    places = np.array([[float(value) for value in one.ImagePositionPatient] for one in slices])
    even = frame.to_lps([[0, 0, k] for k in range(len(slices))])
    return bool(np.abs(places - even).max() < 0.1)
