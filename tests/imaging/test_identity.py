"""Headers that still identify a subject: fields are named, contents never."""

from __future__ import annotations

import csv
import struct
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR, tag_for_keyword

from anatograph.errors import UserError
from anatograph.imaging.identity import identifying_fields, refuse_identified

HU = NDArray[np.int16]


@pytest.mark.parametrize(
    ("tags", "fields"),
    [
        ({"PatientName": "DOE^JANE"}, ["PatientName"]),
        ({"PatientName": "DOE^JANE", "PatientIdentityRemoved": "YES"}, ["PatientName"]),
        ({"PatientName": "Mueller"}, ["PatientName"]),
        ({"PatientName": "LUNG1-001", "PatientID": "LUNG1-001"}, []),
        ({"PatientName": "Anonymous", "PatientID": "anon0042"}, []),
        ({"PatientName": "", "PatientBirthDate": ""}, []),
        ({"PatientID": "7034512"}, ["PatientID"]),
        ({"PatientID": "7034512", "PatientIdentityRemoved": "YES"}, []),
        ({"PatientID": "123-45-6789"}, ["PatientID"]),
        ({"PatientID": "DOE_JANE"}, ["PatientID"]),
        ({"PatientBirthDate": "19500131"}, ["PatientBirthDate"]),
        ({"PatientBirthDate": "19000101"}, []),
        ({"InstitutionName": "St Mary", "PatientAddress": "1 High St"}, ["InstitutionName", "PatientAddress"]),
        ({"PatientComments": "brother of Jim"}, ["PatientComments"]),
        ({"OperatorsName": "KL"}, ["OperatorsName"]),
        ({"ConsultingPhysicianName": "Doe^Jim"}, ["ConsultingPhysicianName"]),
        ({"ReferringPhysicianTelephoneNumbers": "555 1234"}, ["ReferringPhysicianTelephoneNumbers"]),
        ({"PatientTelecomInformation": "jane@example.org"}, ["PatientTelecomInformation"]),
        ({"Occupation": "baker"}, ["Occupation"]),
        ({"AcquisitionComments": "Mrs Doe coughed"}, ["AcquisitionComments"]),
        ({"BurnedInAnnotation": "YES"}, ["BurnedInAnnotation"]),
        ({"BurnedInAnnotation": "NO"}, []),
    ],
)
def test_dicom(tmp_path: Path, chest: HU, series_writer: Any, tags: dict[str, str], fields: list[str]) -> None:
    """One slice of many is enough."""
    folder = series_writer(chest[:3]).write(tmp_path)
    series_writer(chest[:1], tags=tags, seed=7).write(tmp_path / "one")
    assert identifying_fields(folder) == fields
    if fields:
        with pytest.raises(UserError, match="still identify the subject") as error:
            refuse_identified(folder)
        assert not any(value in str(error.value) for value in tags.values() if value != "YES")


def test_implicit_and_nested(tmp_path: Path, chest: HU, series_writer: Any) -> None:
    """Names are found in implicit files, and behind sequences of defined and undefined length."""
    import pydicom
    from pydicom.dataset import Dataset

    source = next(series_writer(chest[:1]).write(tmp_path / "a").iterdir())
    for undefined in (False, True):
        data = pydicom.dcmread(source)
        inner = Dataset()
        inner.CodeValue, inner.CodeMeaning = "T-D3000", "Chest"
        outer = Dataset()
        outer.ProcedureCodeSequence = [inner]
        data.ReferencedStudySequence = [outer, inner]
        data["ReferencedStudySequence"].is_undefined_length = undefined
        data.PatientName = "DOE^JANE"
        for implicit in (True, False):
            folder = tmp_path / f"{undefined}-{implicit}"
            folder.mkdir()
            data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
            pydicom.dcmwrite(folder / "x", data, implicit_vr=implicit, little_endian=True)
            assert identifying_fields(folder) == ["PatientName"]


@pytest.mark.parametrize(
    ("at", "text", "field"),
    [
        (148, "DOE^JANE", ["descrip"]),
        (148, "FSL5.0", []),
        (148, "TE=25;Time=143012.500", []),
        (14, "Jane Doe", ["db_name"]),
        (228, "born 1950-01-31", ["aux_file"]),
        (328, "", []),
    ],
)
def test_nifti(
    tmp_path: Path, chest: HU, as_image: Callable[..., sitk.Image], at: int, text: str, field: list[str]
) -> None:
    for suffix in ("nii", "nii.gz"):
        path = tmp_path / f"scan.{suffix}"
        sitk.WriteImage(as_image(chest), str(tmp_path / "plain.nii"))
        data = bytearray((tmp_path / "plain.nii").read_bytes())
        data[148:252] = bytes(104)
        data[at : at + len(text)] = text.encode()
        if suffix == "nii.gz":
            import gzip

            data = bytearray(gzip.compress(bytes(data)))
        path.write_bytes(bytes(data))
        assert identifying_fields(path) == field


def test_a_nifti_extension_that_holds_a_dicom_header(tmp_path: Path, chest: HU, as_image: Any) -> None:
    sitk.WriteImage(as_image(chest), str(tmp_path / "scan.nii"))
    data = bytearray((tmp_path / "scan.nii").read_bytes())
    data[108:112] = struct.pack("<f", 352 + 32)
    data[348:352] = b"\1\0\0\0"
    data[352:352] = struct.pack("<2i", 32, 2) + b"\x10\0\x10\0PN\x08\0DOE^JANE".ljust(24, b"\0")
    (tmp_path / "scan.nii").write_bytes(bytes(data))
    assert identifying_fields(tmp_path / "scan.nii") == ["extension 2 (a DICOM header)"]


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_keys_of_their_own(tmp_path: Path, chest: HU, as_image: Any, suffix: str) -> None:
    image = as_image(chest)
    path = tmp_path / f"scan.{suffix}"
    sitk.WriteImage(image, str(path))
    assert identifying_fields(path) == []
    image.SetMetaData("0010|0010", "DOE^JANE")
    image.SetMetaData("0010|0030", "19500131")
    sitk.WriteImage(image, str(path))
    assert identifying_fields(path) == ["PatientBirthDate", "PatientName"]
    other = as_image(chest)
    other.SetMetaData("patient_name", "k77")
    sitk.WriteImage(other, str(path))
    assert identifying_fields(path) == ["patient_name"]


def test_the_attributes_are_those_of_the_profile() -> None:
    """Keyword, tag and value representation agree with the DICOM dictionary."""
    text = resources.files("anatograph.imaging").joinpath("identifying.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    assert len(rows) > 60
    for row in rows:
        tag = tag_for_keyword(row["keyword"])
        assert tag is not None
        assert row["tag"] == f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        assert row["vr"] == dictionary_VR(tag)
        assert (row["judged_as"] == "name") == (row["vr"] == "PN")


@pytest.mark.parametrize("name", ["normal002", "covid002", "thick001"])
def test_published_scans_identify_no_patient(shared: Path, name: str) -> None:
    assert identifying_fields(shared / "data" / "dicom" / name) == []
