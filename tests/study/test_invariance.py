"""One person, stored in every way: the same landmarks, the same patches, the same vector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas, build_atlas, default_atlas
from anatograph.imaging.reading import read_volume
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.embedding_model import Model
from anatograph.phantoms import PhantomSettings, make_subject
from anatograph.study.prepare import prepare_subject

SPACING = 3.5


@dataclass(frozen=True)
class Result:
    landmarks: NDArray[np.float64]
    patches: NDArray[np.int16]
    vector: NDArray[np.float32]


@pytest.fixture(scope="module")
def image() -> sitk.Image:
    """A phantom as an LPS image of SimpleITK."""
    volume = make_subject(5, 0, PhantomSettings(spacing_mm=SPACING, field_margin_mm=20.0)).volume
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.origin)
    return image


@pytest.fixture(scope="module")
def coarse_atlas() -> Atlas:
    """The shipped atlas's lungs with fewer landmarks."""
    return build_atlas(default_atlas().lungs, step=60)


@pytest.fixture(scope="module")
def run(coarse_atlas: Atlas) -> Callable[[Path], Result]:
    """From a file to landmarks, patches and the vector of a network with random weights."""
    torch.manual_seed(0)
    model = Model(ModelConfig(), coarse_atlas.location_codes)

    def of(path: Path) -> Result:
        subject = prepare_subject(read_volume(path), None, coarse_atlas)
        vector = model.embed(subject.patches, subject.edges, subject.present).subject
        return Result(subject.landmarks, subject.patches, vector)

    return of


@pytest.fixture(scope="module")
def plain(image: sitk.Image, run: Callable[[Path], Result], tmp_path_factory: pytest.TempPathFactory) -> Result:
    path = tmp_path_factory.mktemp("plain") / "scan.nii.gz"
    sitk.WriteImage(image, str(path))
    return run(path)


def write_dicom(image: sitk.Image, folder: Path) -> Path:
    """A series written by GDCM, its file names in no order of place, stored with slope 1 and intercept -1024."""
    folder.mkdir()
    depth = image.GetSize()[2]
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = image.GetDirection()
    orientation = "\\".join(str(direction[3 * row + column]) for column in (0, 1) for row in range(3))
    for number in range(depth):
        piece = image[:, :, number]  # HU; the writer applies slope and intercept backwards
        for tag, value in {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.1.{number + 1}",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.3",
            "0020|0013": str(number + 1),
            "0020|0032": "\\".join(f"{value:.6f}" for value in image.TransformIndexToPhysicalPoint((0, 0, number))),
            "0020|0037": orientation,
            "0028|1052": "-1024",
            "0028|1053": "1",
            "0018|0050": str(SPACING),
        }.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{(number * 37) % depth:04d}-{number}.dcm"))
        writer.Execute(piece)
    return folder


def permuted(image: sitk.Image) -> sitk.Image:
    return sitk.PermuteAxes(image, (2, 0, 1))


def shifted_content(image: sitk.Image) -> sitk.Image:
    """The same place in the patient, cut from a larger field of view: the array begins elsewhere."""
    return sitk.ConstantPad(image, (3, 1, 2), (0, 2, 1), -1024)


@pytest.mark.parametrize(
    ("how", "name"),
    [
        (lambda image: sitk.DICOMOrient(image, "RAS"), "ras.nii.gz"),
        (lambda image: sitk.DICOMOrient(image, "LAS"), "las.nii"),
        (permuted, "permuted.mha"),
        (lambda image: image, "same.nrrd"),
        (lambda image: image, "dicom"),
    ],
    ids=["RAS", "LAS", "permuted axes", "NRRD", "DICOM"],
)
def test_however_a_scan_is_stored(
    how: Callable[[sitk.Image], sitk.Image],
    name: str,
    image: sitk.Image,
    plain: Result,
    run: Callable[[Path], Result],
    tmp_path: Path,
) -> None:
    path = tmp_path / name
    if name == "dicom":
        write_dicom(how(image), path)
    else:
        sitk.WriteImage(how(image), str(path))
    found = run(path)
    assert np.abs(found.landmarks - plain.landmarks).max() < 0.01
    assert_same(found, plain)


@pytest.mark.parametrize("voxels", [(7, -4, 3), (-1, 1, -20)])
def test_wherever_a_scan_lies(
    voxels: tuple[int, int, int], image: sitk.Image, plain: Result, run: Callable[[Path], Result], tmp_path: Path
) -> None:
    """The origin moves by whole voxels; landmarks move along."""
    moved = sitk.Image(image)
    shift = np.array(voxels) * SPACING
    moved.SetOrigin((np.array(image.GetOrigin()) + shift).tolist())
    sitk.WriteImage(moved, str(tmp_path / "moved.nii.gz"))
    found = run(tmp_path / "moved.nii.gz")
    assert np.abs(found.landmarks - shift - plain.landmarks).max() < 0.01
    assert_same(found, plain)


def test_however_much_air_is_around(
    image: sitk.Image, plain: Result, run: Callable[[Path], Result], tmp_path: Path
) -> None:
    """Whole voxels of padding at each side: the array begins elsewhere, the person lies where they lay."""
    sitk.WriteImage(shifted_content(image), str(tmp_path / "padded.nii.gz"))
    found = run(tmp_path / "padded.nii.gz")
    assert np.abs(found.landmarks - plain.landmarks).max() < 0.01
    # A patch over the border of the smaller scan sees the border's last voxels, not the air that was put there.
    low = np.array(image.GetOrigin()) + 16 + 8 * SPACING
    high = np.array(image.TransformIndexToPhysicalPoint([n - 1 for n in image.GetSize()])) - 16 - 8 * SPACING
    within = ((plain.landmarks > low) & (plain.landmarks < high)).all(axis=1)
    assert within.sum() > 20
    assert_same(found, plain, within)


def test_a_real_scan_stored_in_other_orientations(shared: Path, run: Callable[[Path], Result], tmp_path: Path) -> None:
    source = shared / "data" / "nifti" / "small001.nii.gz"
    first = run(source)
    for orientation in ("RAS", "PIR"):
        path = tmp_path / f"{orientation}.nii.gz"
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(source)), orientation), str(path))
        found = run(path)
        assert np.abs(found.landmarks - first.landmarks).max() < 0.01
        assert_same(found, first)


def assert_same(found: Result, expected: Result, rows: NDArray[np.bool_] | slice = slice(None)) -> None:
    """Patches to a few HU at most (rounding of landmarks by 1e-4 mm), the vector to 1e-3 of its length."""
    difference = np.abs(found.patches[rows].astype(np.int32) - expected.patches[rows])
    assert difference.mean() < 0.1
    assert np.percentile(difference, 99.9) <= 2
    assert np.linalg.norm(found.vector - expected.vector) < 1e-3 * np.linalg.norm(expected.vector)
