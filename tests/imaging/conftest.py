"""A small chest with known truth, and DICOM series written by pydicom, for the tests of reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def chest_array(shape: tuple[int, int, int] = (24, 40, 48), seed: int = 0) -> NDArray[np.int16]:
    """HU, z, y, x on an LPS grid: a body, a large right lung (small x) with a bright spot, a small left, a spine."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000.0)
    hu[(x / 0.9) ** 2 + (y / 0.8) ** 2 < 1] = 40
    hu[((x + 0.42) / 0.32) ** 2 + (y / 0.55) ** 2 + (z / 0.9) ** 2 < 1] = -850
    hu[((x - 0.45) / 0.25) ** 2 + (y / 0.5) ** 2 + (z / 0.8) ** 2 < 1] = -800
    hu[(x / 0.12) ** 2 + ((y - 0.6) / 0.12) ** 2 < 1] = 500
    hu[((x + 0.5) / 0.1) ** 2 + ((y + 0.2) / 0.1) ** 2 + ((z - 0.4) / 0.15) ** 2 < 1] = 60
    noise = np.random.default_rng(seed).normal(0, 20, shape)
    return np.maximum(np.rint(hu + noise), -1024).astype(np.int16)


@pytest.fixture(scope="session")
def chest() -> NDArray[np.int16]:
    return chest_array()


def sitk_image(
    array: NDArray[Any],
    spacing: tuple[float, float, float] = (2.0, 2.5, 3.0),
    origin: tuple[float, float, float] = (-50.25, -61.5, -310.125),
    direction: NDArray[np.float64] | None = None,
) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection((np.eye(3) if direction is None else direction).ravel().tolist())
    return image


@pytest.fixture(scope="session")
def as_image() -> Callable[..., sitk.Image]:
    return sitk_image


@dataclass
class SeriesWriter:
    """Writes a DICOM CT series, one file a slice, with names that say nothing about the order."""

    array: NDArray[Any]
    """HU, slices first."""
    spacing: tuple[float, float, float] = (2.0, 2.5, 3.0)
    origin: tuple[float, float, float] = (-50.25, -61.5, -310.125)
    direction: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    step: NDArray[np.float64] | None = None
    """LPS mm from slice to slice; by default along the normal."""
    intercept: float = -1024.0
    slope: float = 1.0
    tags: dict[str, Any] = field(default_factory=dict)
    """Keywords to set on every file; None deletes."""
    each: Callable[[int, FileDataset], None] | None = None
    """Changes the data set of slice k before it is written."""
    skip: tuple[int, ...] = ()
    seed: int = 0
    suffix: str = ".dcm"
    uid: str = ""

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(self.seed)
        names = rng.permutation(len(self.array))
        uid = self.uid or generate_uid(entropy_srcs=[str(folder), str(self.seed)])
        step = self.direction[:, 2] * self.spacing[2] if self.step is None else self.step
        for k, plane in enumerate(self.array):
            if k in self.skip:
                continue
            data = self._dataset(k, plane, uid, np.asarray(self.origin) + k * step)
            if self.each is not None:
                self.each(k, data)
            data.save_as(folder / f"{names[k]:04d}{self.suffix}", enforce_file_format=True)
        return folder

    def _dataset(self, k: int, plane: NDArray[Any], uid: str, position: NDArray[np.float64]) -> FileDataset:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[uid, str(k)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID = CTImageStorage
        data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.Modality = "CT"
        data.PatientID = "P1"
        data.SeriesInstanceUID = uid
        data.StudyInstanceUID = "1.2.3"
        data.FrameOfReferenceUID = "1.2.3.4"
        data.SeriesDescription = "chest"
        data.SeriesNumber = 1
        data.InstanceNumber = len(self.array) - k
        data.ImagePositionPatient = [pydicom.valuerep.DSfloat(v, auto_format=True) for v in position]
        data.ImageOrientationPatient = [
            pydicom.valuerep.DSfloat(v, auto_format=True) for v in self.direction[:, :2].T.ravel()
        ]
        data.PixelSpacing = [self.spacing[1], self.spacing[0]]
        data.SliceThickness = self.spacing[2]
        data.SamplesPerPixel = 1
        data.PhotometricInterpretation = "MONOCHROME2"
        data.Rows, data.Columns = plane.shape[:2]
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelRepresentation = 1
        data.RescaleIntercept = self.intercept
        data.RescaleSlope = self.slope
        data.RescaleType = "HU"
        data.PixelData = np.rint((plane - self.intercept) / self.slope).astype("<i2").tobytes()
        for keyword, value in self.tags.items():
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)
        return data


@pytest.fixture(scope="session")
def series_writer() -> type[SeriesWriter]:
    return SeriesWriter
