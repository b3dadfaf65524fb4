"""A synthetic scan as a DICOM series, as an archive would give it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from anatograph.imaging.volume import Volume

_ROOT = "1.2.826.0.1.3680043.10.1555"


def uid(*parts: object) -> str:
    """A DICOM UID that depends on nothing but ``parts``."""
    digest = int(hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:24], 16)
    return f"{_ROOT}.{digest}"


def write_series(volume: Volume, folder: Path, key: str, subject_id: str, sex: str, age: int, site: str) -> None:
    """Writes an axis-aligned volume as one CT file a slice into the new ``folder``.

    Stored values are HU + 1024 with a rescale intercept of -1024. UIDs follow from ``key``; file names are in no order
    of position, as archives have it.
    """
    folder.mkdir(parents=True)
    frame = volume.frame
    count = frame.shape[0]
    order = np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)).permutation(count)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    common = {
        "0008|0005": "ISO_IR 100",
        "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        "0008|0012": "20200101",
        "0008|0013": "120000",
        "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
        "0008|0020": "20200101",
        "0008|0021": "20200101",
        "0008|0022": "20200101",
        "0008|0023": "20200101",
        "0008|0030": "120000",
        "0008|0031": "120000",
        "0008|0050": "",
        "0008|0060": "CT",
        "0008|0070": "Anatograph phantom",
        "0008|0080": f"Site {site}",
        "0008|103e": "Synthetic chest CT",
        "0010|0010": f"Phantom^{subject_id}",
        "0010|0020": subject_id,
        "0010|0040": sex,
        "0010|1010": f"{age:03d}Y",
        "0018|0050": f"{frame.spacing[2]:g}",
        "0018|0060": "120",
        # GDCM adds this one or not, depending on what the process has read before; so it is always given.
        "0018|0088": f"{frame.spacing[2]:g}",
        "0018|5100": "HFS",
        "0020|000d": uid(key, "study"),
        "0020|000e": uid(key, "series"),
        "0020|0010": "1",
        "0020|0011": "1",
        "0020|0037": "1\\0\\0\\0\\1\\0",
        "0020|0052": uid(key, "frame of reference"),
        "0028|1050": "-600",
        "0028|1051": "1500",
        "0028|1052": "-1024",
        "0028|1053": "1",
        "0028|1054": "HU",
    }
    for k in range(count):
        image = sitk.GetImageFromArray(volume.array[k][None])
        image.SetSpacing(frame.spacing)
        image.SetOrigin((frame.origin[0], frame.origin[1], frame.origin[2] + k * frame.spacing[2]))
        for tag, value in common.items():
            image.SetMetaData(tag, value)
        position = (frame.origin[0], frame.origin[1], frame.origin[2] + k * frame.spacing[2])
        image.SetMetaData("0008|0018", uid(key, "slice", k))
        image.SetMetaData("0020|0013", str(k + 1))
        image.SetMetaData("0020|0032", "\\".join(f"{v:.4f}" for v in position))
        image.SetMetaData("0020|1041", f"{position[2]:.4f}")
        writer.SetFileName(str(folder / f"IM{order[k] + 1:04d}.dcm"))
        writer.Execute(image)
