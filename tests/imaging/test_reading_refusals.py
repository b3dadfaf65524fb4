"""What cannot be a chest CT in Hounsfield units is refused, with the reason; what can be is not."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.checks import check_frame, check_hounsfield
from anatograph.imaging.reading import read_mask, read_volume
from anatograph.imaging.volume import Frame

Image = Callable[..., sitk.Image]
HU = NDArray[np.int16]


def eight_bit(hu: HU) -> NDArray[Any]:
    return np.clip((hu + 1024.0) / 5, 0, 255).astype(np.uint8)


NUMBERS: dict[str, tuple[Callable[[HU], NDArray[Any]], str]] = {
    "eight bit": (eight_bit, "8-bit"),
    "eight bit kept as int16": (lambda hu: eight_bit(hu).astype(np.int16), "8-bit"),
    "signed eight bit": (lambda hu: (eight_bit(hu).astype(np.int16) - 128).astype(np.int8), "too narrow"),
    "0 to 1": (lambda hu: (eight_bit(hu) / 255).astype(np.float32), r"\[0, 1\] or \[-1, 1\]"),
    "-1 to 1": (lambda hu: np.clip((hu + 392) / 632, -1, 1).astype(np.float32), r"\[0, 1\] or \[-1, 1\]"),
    "z scores": (lambda hu: ((hu - hu.mean()) / hu.std()).astype(np.float32), "too narrow"),
    "g/cm³": (lambda hu: (1 + hu / 1000).astype(np.float32), "too narrow"),
    "no intercept": (lambda hu: hu + 1024, "without the rescale intercept"),
    "no intercept, with padding": (
        lambda hu: np.where(hu > 480, -2000, hu + 1024).astype(np.int16),
        "rescale intercept",
    ),
    "intercept twice": (lambda hu: hu - 1024, "subtracted twice"),
    "clipped as the networks want it": (lambda hu: np.clip(hu, -1024, 240), "clipping to a window"),
    "lung window": (lambda hu: np.clip(hu, -1350, 150), "clipping to a window"),
    "soft tissue window": (lambda hu: np.clip(hu, -160, 240), "too narrow"),
    "wide soft tissue window": (lambda hu: np.clip(hu, -400, 400), "nothing below -700"),
    "sixteen bit": (lambda hu: ((hu + 1024.0) * 20).astype(np.uint16), "nothing below 0"),
    "huge": (lambda hu: hu.astype(np.float32) * 100, "beyond any Hounsfield unit"),
    "constant": (lambda hu: np.full_like(hu, -1000), "every voxel"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_that_cannot_be_hu(tmp_path: Path, chest: HU, as_image: Image, case: str) -> None:
    change, reason = NUMBERS[case]
    sitk.WriteImage(as_image(change(chest)), str(tmp_path / "scan.nii.gz"))
    with pytest.raises(UserError, match=reason) as error:
        read_volume(tmp_path / "scan.nii.gz")
    assert str(tmp_path / "scan.nii.gz") in str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(tmp_path: Path, chest: HU, as_image: Image, bad: float) -> None:
    values = chest.astype(np.float32)
    values[-1, 3, 4] = bad
    sitk.WriteImage(as_image(values), str(tmp_path / "scan.nrrd"))
    with pytest.raises(UserError, match="not finite"):
        read_volume(tmp_path / "scan.nrrd")


@pytest.mark.parametrize("name", ["lung1", "small001", "small002"])
def test_windowed_real_scans(shared: Path, name: str) -> None:
    array = read_volume(shared / "data" / "nifti" / f"{name}.nii.gz").array[::2]
    for window in [(-1024, 150), (-1024, 240), (-1000, 400), (-1350, 150)]:
        with pytest.raises(UserError, match="clipping to a window"):
            check_hounsfield(np.clip(array, *window), "scan")
    stretched = np.rint((np.clip(array, -1024, 240) + 392) / 632 * 1024).astype(np.int16)
    with pytest.raises(UserError, match="clipping to a window"):
        check_hounsfield(stretched, "scan")
    check_hounsfield(np.minimum(array, 1000), "scan")  # bone cut off


ODD_BUT_RIGHT: dict[str, Callable[[HU], NDArray[Any]]] = {
    "drawn without noise": lambda hu: np.select([hu > 250, hu > -400, hu > -930], [300, 40, -850], -1000),
    "saturated at 12 bit": lambda hu: np.where(hu > 400, 3071, hu),
    "lungs on a black ground": lambda hu: np.where(hu < 0, hu, np.where(hu > 400, hu, np.where(hu > 45, hu, -1024))),
    "padding at -32768": lambda hu: np.where(hu > 450, -32768, hu),
    "air exactly -1024": lambda hu: np.where(hu < -900, -1024, hu),
}


@pytest.mark.parametrize("case", ODD_BUT_RIGHT)
def test_odd_scans_that_are_in_hu(tmp_path: Path, chest: HU, as_image: Image, case: str) -> None:
    values = ODD_BUT_RIGHT[case](chest).astype(np.int16)
    sitk.WriteImage(as_image(values), str(tmp_path / "scan.mha"))
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.mha").array, np.maximum(values, -1024))


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"spacing": (1.0, 1.0, 12.5)}, "12.5 mm apart"),
        ({"spacing": (0.0007, 0.0007, 0.001)}, "not possible"),
        ({"shape": (15, 40, 40)}, "only 15 slices"),
        ({"direction": np.array([[1.0, 0, 1], [0, 1, 0], [0, 0, 0]])}, "degenerate"),
        ({"direction": np.zeros((3, 3))}, "degenerate"),
        ({"direction": np.array([[1.0, 0, 0], [0, 1, 0.3], [0, 0, np.sqrt(0.91)]])}, "not at right angles"),
        ({"origin": (np.nan, 0.0, 0.0)}, "not a finite number"),
        ({"spacing": (1.0, np.inf, 1.0)}, "not a finite number"),
    ],
)
def test_frames(frame: dict[str, Any], reason: str) -> None:
    whole = {"shape": (40, 40, 40), "spacing": (1.0, 1.0, 2.0), "origin": (0.0, 0.0, 0.0), **frame}
    with pytest.raises(UserError, match=reason):
        check_frame(Frame(**whole), "scan")


def test_thin_and_coarse_files(tmp_path: Path, chest: HU, as_image: Image) -> None:
    sitk.WriteImage(as_image(chest[:15]), str(tmp_path / "thin.nii.gz"))
    with pytest.raises(UserError, match="only 15 slices, and at least 16"):
        read_volume(tmp_path / "thin.nii.gz")
    sitk.WriteImage(as_image(chest[:16]), str(tmp_path / "enough.nii.gz"))
    assert read_volume(tmp_path / "enough.nii.gz").array.shape[0] == 16
    sitk.WriteImage(as_image(chest, (1.0, 1.0, 10.5)), str(tmp_path / "coarse.nii.gz"))
    with pytest.raises(UserError, match=r"10.5 mm apart"):
        read_volume(tmp_path / "coarse.nii.gz")


def test_degenerate_direction_in_files(tmp_path: Path, chest: HU, as_image: Image) -> None:
    sitk.WriteImage(as_image(chest), str(tmp_path / "scan.mha"))
    data = (tmp_path / "scan.mha").read_bytes()
    whole = b"TransformMatrix = 1 0 0 0 1 0 0 0 1"
    assert whole in data
    for name, matrix in [("singular", b"1 0 0 0 1 0 0 1 0"), ("zero", b"0 0 0 0 0 0 0 0 0")]:
        path = tmp_path / f"{name}.mha"
        path.write_bytes(data.replace(whole, b"TransformMatrix = " + matrix))
        with pytest.raises(UserError, match=f"{name}.mha"):
            read_volume(path)


@pytest.mark.parametrize(
    ("codes", "rows", "reason"),
    [
        ((0, 2), [[2, 0, 0, 0], [2, 0, 0, 0], [0, 0, 3, 0]], "scan"),
        ((0, 2), [[2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 3, 0]], "scan"),
        ((0, 1), [[-2, 0, 0, 0], [0, -2, 0.9, 0], [0, 0, 3, 0]], "not at right angles"),
        ((1, 1), [[-2, 0, 0, 0], [0, -2, 0.9, 0], [0, 0, 3, 0]], "not at right angles"),
        ((0, 0), [[-2, 0, 0, 0], [0, -2, 0, 0], [0, 0, 3, 0]], "left and right are unknown"),
    ],
)
def test_nifti_headers(
    tmp_path: Path, chest: HU, as_image: Image, codes: tuple[int, int], rows: list[list[float]], reason: str
) -> None:
    sitk.WriteImage(as_image(chest), str(tmp_path / "scan.nii"))
    data = bytearray((tmp_path / "scan.nii").read_bytes())
    data[252:256] = np.array(codes, dtype="<i2").tobytes()  # qform_code, sform_code
    data[280:328] = np.array(rows, dtype="<f4").tobytes()
    (tmp_path / "scan.nii").write_bytes(bytes(data))
    with pytest.raises(UserError, match=reason):
        read_volume(tmp_path / "scan.nii")


def test_dimensions_and_colours(tmp_path: Path, chest: HU, as_image: Image) -> None:
    two = sitk.JoinSeries([as_image(chest), as_image(chest)])
    sitk.WriteImage(two, str(tmp_path / "two.nii.gz"))
    with pytest.raises(UserError, match=r"4 dimensions \(48 × 40 × 24 × 2\)"):
        read_volume(tmp_path / "two.nii.gz")
    sitk.WriteImage(sitk.JoinSeries([as_image(chest)]), str(tmp_path / "one.nii.gz"))
    np.testing.assert_array_equal(read_volume(tmp_path / "one.nii.gz").array, chest)
    sitk.WriteImage(sitk.Compose([as_image(chest)] * 3), str(tmp_path / "colour.nrrd"))
    with pytest.raises(UserError, match="3 numbers at every voxel"):
        read_volume(tmp_path / "colour.nrrd")
    sitk.WriteImage(as_image(chest)[:, :, 5], str(tmp_path / "flat.nii.gz"))
    with pytest.raises(UserError, match="flat picture"):
        read_volume(tmp_path / "flat.nii.gz")


@pytest.mark.parametrize("reader", [read_volume, read_mask])
def test_missing_damaged_and_foreign_files(tmp_path: Path, as_image: Image, chest: HU, reader: Any) -> None:
    with pytest.raises(UserError, match="does not exist"):
        reader(tmp_path / "nothing.nii.gz")
    (tmp_path / "scan.png").write_bytes(b"x")
    with pytest.raises(UserError, match="by its name"):
        reader(tmp_path / "scan.png")
    (tmp_path / "text.nii.gz").write_text("not an image")
    with pytest.raises(UserError, match="cannot be read"):
        reader(tmp_path / "text.nii.gz")
    (tmp_path / "empty.nii").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        reader(tmp_path / "empty.nii")
    for suffix in (".nii.gz", ".nii", ".mha", ".nrrd"):
        path = tmp_path / f"cut{suffix}"
        sitk.WriteImage(as_image(chest), str(path), suffix in (".mha", ".nrrd"))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError, match=r"cannot be read|damaged"):
            reader(path)


def test_flipped_bits_in_a_compressed_file(tmp_path: Path, as_image: Image, chest: HU) -> None:
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(as_image(chest), str(path))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="damaged"):
        read_volume(path)


def test_compressed_in_several_members(tmp_path: Path, as_image: Image, chest: HU) -> None:
    sitk.WriteImage(as_image(chest), str(tmp_path / "scan.nii"))
    data = (tmp_path / "scan.nii").read_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(data[:9999]) + gzip.compress(data[9999:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii.gz").array, chest)


def test_nrrd_spaces(tmp_path: Path, as_image: Image, chest: HU) -> None:
    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(as_image(chest), str(path))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"left-posterior-superior", b"right-anterior-superior"))
    np.testing.assert_array_equal(read_volume(path).array, chest[:, ::-1, ::-1])
    path.write_bytes(data.replace(b"left-posterior-superior", b"left-anterior-superior"))
    np.testing.assert_array_equal(read_volume(path).array, chest[:, ::-1])
    path.write_bytes(data.replace(b"left-posterior-superior", b"scanner-xyz"))
    with pytest.raises(UserError, match="its space is scanner-xyz"):
        read_volume(path)
    header, voxels = data.split(b"\n\n", 1)
    lines = [line for line in header.split(b"\n") if not line.startswith(b"space")]
    path.write_bytes(b"\n".join([*lines, b"spacings: 2 2.5 3"]) + b"\n\n" + voxels)
    with pytest.raises(UserError, match="its space is not given"):
        read_volume(path)
