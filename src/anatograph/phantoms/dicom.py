"""A synthetic scan as a DICOM series, as an archive would deliver it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.datadict import tag_for_keyword

from anatograph.imaging.volume import Volume

_ROOT = "1.2.826.0.1.3680043.10.1555"


def uid(*parts: object) -> str:
    """A DICOM UID derived from ``parts`` alone."""
    digest = int(hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:24], 16)
    return f"{_ROOT}.{digest}"


def _key(keyword: str) -> str:
    """ITK's name of a DICOM attribute, as in "0010|0020"."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is not a DICOM keyword")
    return f"{tag >> 16:04x}|{tag & 0xFFFF:04x}"


def write_series(volume: Volume, folder: Path, key: str, subject_id: str, sex: str, age: int, site: str) -> None:
    """Write an axis-aligned volume into the new ``folder``, one CT file per slice.

    Stored values are HU + 1024 with a rescale intercept of -1024. UIDs follow from ``key``; file names
    are not in the order of the slices, as in archives.
    """
    folder.mkdir(parents=True)
    frame = volume.frame
    count = frame.shape[0]
    order = np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)).permutation(count)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    common = {
        "SpecificCharacterSet": "ISO_IR 100",
        "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
        "InstanceCreationDate": "20200101",
        "InstanceCreationTime": "120000",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "StudyDate": "20200101",
        "SeriesDate": "20200101",
        "AcquisitionDate": "20200101",
        "ContentDate": "20200101",
        "StudyTime": "120000",
        "SeriesTime": "120000",
        "AccessionNumber": "",
        "Modality": "CT",
        "Manufacturer": "Anatograph phantom",
        "InstitutionName": f"Site {site}",
        "SeriesDescription": "Synthetic chest CT",
        "PatientName": f"Phantom^{subject_id}",
        "PatientID": subject_id,
        "PatientSex": sex,
        "PatientAge": f"{age:03d}Y",
        "SliceThickness": f"{frame.spacing[2]:g}",
        "KVP": "120",
        # GDCM adds this attribute or not, depending on what the process has read before, so it is always set.
        "SpacingBetweenSlices": f"{frame.spacing[2]:g}",
        "PatientPosition": "HFS",
        "StudyInstanceUID": uid(key, "study"),
        "SeriesInstanceUID": uid(key, "series"),
        "StudyID": "1",
        "SeriesNumber": "1",
        "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
        "FrameOfReferenceUID": uid(key, "frame of reference"),
        "WindowCenter": "-600",
        "WindowWidth": "1500",
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "RescaleType": "HU",
    }
    for k in range(count):
        image = sitk.GetImageFromArray(volume.array[k][None])
        image.SetSpacing(frame.spacing)
        image.SetOrigin((frame.origin[0], frame.origin[1], frame.origin[2] + k * frame.spacing[2]))
        for keyword, value in common.items():
            image.SetMetaData(_key(keyword), value)
        position = (frame.origin[0], frame.origin[1], frame.origin[2] + k * frame.spacing[2])
        image.SetMetaData(_key("SOPInstanceUID"), uid(key, "slice", k))
        image.SetMetaData(_key("InstanceNumber"), str(k + 1))
        image.SetMetaData(_key("ImagePositionPatient"), "\\".join(f"{v:.4f}" for v in position))
        image.SetMetaData(_key("SliceLocation"), f"{position[2]:.4f}")
        writer.SetFileName(str(folder / f"IM{order[k] + 1:04d}.dcm"))
        writer.Execute(image)
