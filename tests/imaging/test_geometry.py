"""Files whose statements about their grid are missing or contradict each other."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.reading import inspect_scan, read_mask, read_volume

HU = NDArray[np.int16]
Image = Callable[..., sitk.Image]
SROW, PIXDIM, UNITS, CODES, QUATERNION = 280, 76, 123, 252, 256


@pytest.fixture
def nifti(tmp_path: Path, chest: HU, as_image: Image) -> Callable[..., Path]:
    """Writes the chest with header fields replaced: (offset, struct format, values …)."""
    sitk.WriteImage(as_image(chest), str(tmp_path / "right.nii"))

    def write(*edits: tuple[object, ...]) -> Path:
        data = bytearray((tmp_path / "right.nii").read_bytes())
        for at, form, *values in edits:
            struct.pack_into(f"<{form}", data, at, *values)
        (tmp_path / "scan.nii").write_bytes(data)
        return tmp_path / "scan.nii"

    return write


def srow(**changes: float) -> tuple[object, ...]:
    """The sform of the chest, with entries changed (``x0`` … ``z3``)."""
    rows = {"x0": -2.0, "x3": 50.25, "y1": -2.5, "y3": 61.5, "z2": 3.0, "z3": -310.125} | changes
    return (SROW, "12f", *(rows.get(f"{axis}{k}", 0.0) for axis in "xyz" for k in range(4)))


@pytest.mark.parametrize("value", [4.0, 0.0, -3.0, float("nan"), float("inf")])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_sform_counts_and_not_pixdim(
    nifti: Callable[..., Path], tmp_path: Path, chest: HU, value: float, axis: int
) -> None:
    path = nifti((PIXDIM + 4 * (axis + 1), "f", value))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, chest)
    assert volume.frame.same_grid(read_volume(tmp_path / "right.nii").frame)
    assert "two voxel sizes" in volume.flags[0]
    assert inspect_scan(path) == volume.flags


def test_rounding_between_pixdim_and_sform_is_not_flagged(nifti: Callable[..., Path]) -> None:
    volume = read_volume(nifti((PIXDIM + 12, "f", 3.0004)))
    assert volume.flags == ()
    assert volume.spacing == (2.0, 2.5, 3.0)


def test_masks_follow_the_sform_too(tmp_path: Path, chest: HU, as_image: Image) -> None:
    sitk.WriteImage(as_image((chest < -700).astype(np.uint8)), str(tmp_path / "mask.nii"))
    data = bytearray((tmp_path / "mask.nii").read_bytes())
    struct.pack_into("<f", data, PIXDIM + 12, -4.0)
    (tmp_path / "mask.nii").write_bytes(data)
    assert read_mask(tmp_path / "mask.nii").frame.spacing == (2.0, 2.5, 3.0)


@pytest.mark.parametrize("value", [0.0, -3.0, float("nan")])
def test_without_an_sform_a_voxel_size_must_be_possible(nifti: Callable[..., Path], value: float) -> None:
    with pytest.raises(UserError, match="not possible, and no sform"):
        read_volume(nifti((CODES + 2, "h", 0), (PIXDIM + 12, "f", value)))


def test_without_an_sform_the_qform_counts(nifti: Callable[..., Path], tmp_path: Path) -> None:
    right = read_volume(tmp_path / "right.nii")
    volume = read_volume(nifti((CODES + 2, "h", 0), srow(x0=7.0)))
    assert volume.frame.same_grid(right.frame)
    mirrored = read_volume(nifti((CODES + 2, "h", 0), (PIXDIM, "f", -1.0)))
    np.testing.assert_array_equal(mirrored.array, right.array[::-1])


@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (1, 1), (2, 3)])
@pytest.mark.parametrize("first", [1.0, -1.0, 0.0])
def test_frames_equal_those_of_nibabel(nifti: Callable[..., Path], codes: tuple[int, int], first: float) -> None:
    turn = np.linalg.qr(np.eye(3) + 0.2 * np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn) * (-1.0 if first < 0 and codes[0] else 1.0)
    affine = np.zeros((3, 4))
    affine[:, :3], affine[:, 3] = turn * (2.0, 2.5, 3.0), (40.0, 30.0, -310.0)
    quaternion = nibabel.quaternions.mat2quat(turn * (1.0, 1.0, -1.0 if first < 0 and codes[0] else 1.0))[1:]
    path = nifti((CODES, "2h", *codes), (PIXDIM, "f", first), (SROW, "12f", *affine.ravel()),
                 (QUATERNION, "6f", *quaternion, 40.0, 30.0, -310.0))  # fmt: skip
    expected = np.diag([-1.0, -1.0, 1.0, 1.0]) @ nibabel.load(path).affine
    stored = read_volume(path).stored
    assert stored is not None
    np.testing.assert_allclose(stored.index_to_lps_matrix, expected[:3, :3], atol=1e-5)
    np.testing.assert_allclose(stored.origin, expected[:3, 3], atol=1e-4)


@pytest.mark.parametrize("change", [{"x0": 2.0, "x3": -43.75}, {"y1": 2.5, "y3": -36.0}, {"z2": -3.0, "z3": -241.0}])
def test_an_sform_that_mirrors_the_qform_is_refused(nifti: Callable[..., Path], change: dict[str, float]) -> None:
    path = nifti(srow(**change))
    for read in (read_volume, inspect_scan):
        with pytest.raises(UserError, match="mirror images"):
            read(path)


def test_an_sform_beside_another_qform_is_flagged(nifti: Callable[..., Path]) -> None:
    moved = read_volume(nifti(srow(z3=-290.0)))
    assert "place the scan differently (up to 20 mm apart)" in moved.flags[0]
    assert moved.origin[2] == -290
    turned = read_volume(nifti(srow(x0=2.0, x3=-43.75, y1=2.5, y3=-36.0)))
    assert "orient the scan differently" in turned.flags[0]


def test_units_are_converted_or_refused(nifti: Callable[..., Path]) -> None:
    right = read_volume(nifti())
    micrometres = read_volume(
        nifti((UNITS, "B", 3), (PIXDIM + 4, "3f", 2000.0, 2500.0, 3000.0),
              srow(x0=-2000.0, x3=50250.0, y1=-2500.0, y3=61500.0, z2=3000.0, z3=-310125.0))
    )  # fmt: skip
    assert micrometres.frame.same_grid(right.frame)
    for code, unit in ((1, "m"), (3, "um")):
        with pytest.raises(UserError, match=f"its unit of length is {unit}, by which"):
            read_volume(nifti((UNITS, "B", code)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_placeholder_for_the_geometry_is_flagged(tmp_path: Path, chest: HU, as_image: Image, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    for direction in (np.eye(3), np.diag([-1.0, -1.0, 1.0])):
        sitk.WriteImage(as_image(chest, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), direction), str(path))
        assert "does not know the geometry" in read_volume(path).flags[0]
        assert "does not know the geometry" in inspect_scan(path)[0]
    sitk.WriteImage(as_image(chest, (1.0, 1.0, 1.0), (-20.0, 0.0, 3.0)), str(path))
    assert read_volume(path).flags == ()


@pytest.fixture
def metaimage(tmp_path: Path, chest: HU, as_image: Image) -> Callable[[bytes, bytes], Path]:
    """Writes the chest as MetaImage with one line of its header replaced."""

    def write(old: bytes, new: bytes) -> Path:
        sitk.WriteImage(as_image(chest), str(tmp_path / "scan.mha"))
        head, mark, rest = (tmp_path / "scan.mha").read_bytes().partition(b"ElementDataFile")
        assert old in head
        (tmp_path / "scan.mha").write_bytes(head.replace(old, new) + mark + rest)
        return tmp_path / "scan.mha"

    return write


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"ElementSpacing = 2 2.5 3\n", b"", "ElementSpacing is missing"),
        (b"ElementSpacing = 2 2.5 3\n", b"ElementSize = 2 2.5 3\n", "ElementSpacing is missing"),
        (b"ElementSpacing = 2 2.5 3\n", b"ElementSpacing = 2 2.5\n", "not a distance in mm for each of 3 axes"),
        (b"ElementSpacing = 2 2.5 3\n", b"ElementSpacing = 2 2.5 0\n", "not a distance"),
        (b"ElementSpacing = 2 2.5 3\n", b"ElementSpacing = 2 2.5 -3\n", "not a distance"),
        (b"ElementSpacing = 2 2.5 3\n", b"ElementSpacing = 2 2.5 nan\n", "not a distance"),
        (b"AnatomicalOrientation = RAI", b"AnatomicalOrientation = LPI", "says LPI and TransformMatrix means RAI"),
        (b"AnatomicalOrientation = RAI", b"AnatomicalOrientation = LPS", "says LPS and TransformMatrix means RAI"),
        (b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = -1 0 0 0 -1 0 0 0 1", "TransformMatrix means LPI"),
        (b"NDims = 3\n", b"NDims = 3\nDistanceUnits = um\n", "DistanceUnits are um"),
    ],
)
def test_metaimage_without_sound_geometry(
    metaimage: Callable[[bytes, bytes], Path], old: bytes, new: bytes, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_volume(metaimage(old, new))


def test_metaimage_of_unknown_orientation_is_as_its_matrix(
    metaimage: Callable[[bytes, bytes], Path], chest: HU
) -> None:
    for new in (b"AnatomicalOrientation = ???", b"Comment = none"):
        np.testing.assert_array_equal(read_volume(metaimage(b"AnatomicalOrientation = RAI", new)).array, chest)


@pytest.fixture
def nrrd(tmp_path: Path, chest: HU, as_image: Image) -> Callable[..., Path]:
    """Writes the chest as NRRD with a line of its header replaced, and lines added."""

    def write(old: bytes = b"", new: bytes = b"", added: bytes = b"") -> Path:
        sitk.WriteImage(as_image(chest), str(tmp_path / "scan.nrrd"))
        head, _, voxels = (tmp_path / "scan.nrrd").read_bytes().partition(b"\n\n")
        assert old in head
        (tmp_path / "scan.nrrd").write_bytes((head.replace(old, new) if old else head) + added + b"\n\n" + voxels)
        return tmp_path / "scan.nrrd"

    return write


DIRECTIONS = b"space directions: (2,0,0) (0,2.5,0) (0,0,3)"


@pytest.mark.parametrize(("unit", "factor"), [(b"um", 1000), (b"microns", 1000), (b"cm", 0.1), (b"m", 0.001)])
def test_nrrd_in_another_unit(nrrd: Callable[..., Path], unit: bytes, factor: float) -> None:
    x, y, z = (b"%.10g" % (value * factor) for value in (2.0, 2.5, 3.0))
    origin = b"(%.10g,%.10g,%.10g)" % (-50.25 * factor, -61.5 * factor, -310.125 * factor)
    path = nrrd(DIRECTIONS, b"space directions: (%s,0,0) (0,%s,0) (0,0,%s)" % (x, y, z))
    data = path.read_bytes().replace(b"(-50.25,-61.5,-310.125)", origin, 1)
    head, _, voxels = data.partition(b"\n\n")
    path.write_bytes(head + b'\nspace units: "%s" "%s" "%s"\n\n' % (unit, unit, unit) + voxels)
    volume = read_volume(path)
    np.testing.assert_allclose(volume.spacing, (2.0, 2.5, 3.0), rtol=1e-6)
    np.testing.assert_allclose(volume.origin, (-50.25, -61.5, -310.125), atol=1e-4)


def test_nrrd_units_that_cannot_be_meant_or_are_unknown(nrrd: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="its unit of length is um"):
        read_volume(nrrd(added=b'\nspace units: "um" "um" "um"'))
    for unit in (b'"inch" "inch" "inch"', b'"mm" "mm" "um"'):
        with pytest.raises(UserError, match="space units"):
            read_volume(nrrd(added=b"\nspace units: " + unit))
    assert read_volume(nrrd(added=b'\nspace units: "mm" "mm" "mm"')).spacing == (2.0, 2.5, 3.0)


def test_nrrd_without_distances(nrrd: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="'space directions' is missing"):
        read_volume(nrrd(DIRECTIONS, b"thicknesses: 1 1 1"))
