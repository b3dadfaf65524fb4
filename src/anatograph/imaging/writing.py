"""Writing arrays back on the grid of the file they came from."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.execution.files import whole_file
from anatograph.imaging.formats.nifti_words import NiftiWords, write_words
from anatograph.imaging.formats.read import SUFFIXES, suffix_of
from anatograph.imaging.native import native_name
from anatograph.imaging.orientation import is_turned, stored_view
from anatograph.imaging.volume import Mask, Volume


def volume_name(path: Path) -> str | None:
    """Name of a volume file without its ending; None for other files."""
    ending = suffix_of(path)
    return None if ending is None else path.name[: -len(ending)]


def write_array(path: str | Path, array_zyx: NDArray[Any], volume: Volume, words: NiftiWords | None = None) -> None:
    """Write an array on ``volume.frame`` (z, y, x; any real type) on the grid of the scan's own file.

    Size, spacing, origin and direction become those of the file. Where ``volume`` was resampled since, the array is
    interpolated onto that grid: linearly if it holds floats, by the nearest voxel if it holds integers. ``words``
    go into the header of a NIfTI file.
    """
    _write(Path(path), on_stored_grid(array_zyx, volume), words)


def on_stored_grid(array_zyx: NDArray[Any], volume: Volume) -> sitk.Image:
    """An array on ``volume.frame`` (z, y, x; any real type) as an image on the grid of the scan's own file.

    Interpolated as `write_array` says; yes and no become 1 and 0.
    """
    array = np.asarray(array_zyx)
    if array.shape != volume.frame.shape:
        raise ValueError(f"array of shape {array.shape} does not fit the volume's frame {volume.frame.shape}")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    stored = volume.stored or volume.frame
    if volume.stored is None:
        return stored.to_image(array)
    if is_turned(volume.frame, stored):
        return stored.to_image(np.ascontiguousarray(stored_view(array, stored.direction)))
    method = sitk.sitkLinear if np.issubdtype(array.dtype, np.floating) else sitk.sitkNearestNeighbor
    return sitk.Resample(
        volume.frame.to_image(array),
        [int(n) for n in stored.shape[::-1]],
        sitk.Transform(),
        method,
        stored.origin,
        stored.spacing,
        stored.direction.ravel().tolist(),
        float(array.min()),
    )


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write a scan in HU (int16) on the grid of its own file."""
    write_array(path, volume.array, volume)


def write_mask(path: str | Path, mask: Mask) -> None:
    """Write a lung mask (uint8: 1 right, 2 left, 3 side not known) on its own grid."""
    _write(Path(path), mask.frame.to_image(mask.array))


def _write(path: Path, image: sitk.Image, words: NiftiWords | None = None) -> None:
    """Write under another name first, so that a file under its final name is complete."""
    suffix = suffix_of(path)
    if suffix is None:
        raise UserError(f"{path}: the name does not say which file type; end it with one of {', '.join(SUFFIXES)}.")
    if words is not None and suffix not in (".nii", ".nii.gz"):
        raise ValueError(f"{path}: only NIfTI files have a header for words")
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix in (".nhdr", ".mhd"):  # these name a second file with the voxels, which a rename would orphan
        sitk.WriteImage(image, native_name(path), True)
        return
    with whole_file(path, suffix) as part:
        if words is None:
            sitk.WriteImage(image, native_name(part), True)
            return
        plain = part.with_name(part.name.removesuffix(".gz"))
        try:
            sitk.WriteImage(image, native_name(plain), False)
            write_words(plain, words)
            if suffix == ".nii.gz":
                # Neither a name nor a time of its own goes into the file.
                with (
                    plain.open("rb") as source,
                    part.open("wb") as target,
                    gzip.GzipFile("", "wb", 4, target, mtime=0) as packed,
                ):
                    shutil.copyfileobj(source, packed, 1 << 20)
        finally:
            if plain != part:
                plain.unlink(missing_ok=True)
