"""DICOM folders: which series is the scan, and its slices put in order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from anatograph.errors import UserError
from anatograph.imaging.checks import check_frame, check_hounsfield, to_hounsfield
from anatograph.imaging.orientation import lps_frame, lps_view, vector
from anatograph.imaging.volume import Frame, Volume


def is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_dicom_folder(path: str | Path) -> Volume:
    """First form."""
    path = Path(path)
    files = [f for f in sorted(path.rglob("*")) if f.is_file() and is_dicom(f)]
    if not files:
        raise UserError(f"{path}: no DICOM files in this folder.")
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    found = []
    for file in files:
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
        direction = np.asarray(reader.GetDirection()).reshape(3, 3)
        position = np.asarray(reader.GetOrigin())
        found.append(
            (float(position @ direction[:, 2]), str(file), position, direction, reader.GetSpacing(), reader.GetSize())
        )
    found.sort(key=lambda item: item[0])
    size = found[0][5]
    native = np.empty((len(found), size[1], size[0]), dtype=np.int16)
    for k, item in enumerate(found):
        native[k] = to_hounsfield(sitk.GetArrayFromImage(sitk.ReadImage(item[1])), item[1])[0]
    step = (found[-1][0] - found[0][0]) / (len(found) - 1)
    stored = Frame((len(found), size[1], size[0]), vector([*found[0][4][:2], step]), vector(found[0][2]), found[0][3])
    check_frame(stored, str(path))
    array = np.ascontiguousarray(lps_view(native, stored.direction))
    check_hounsfield(array, str(path))
    return Volume(array, lps_frame(stored), stored, str(path))
