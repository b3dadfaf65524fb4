"""Lungs by published networks, with weights on disk; nothing is downloaded."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.volume import Mask, Volume

LUNGMASK_URL = "https://github.com/JoHof/lungmask/releases (unet_r231-d5d2fc3d.pth)"
"""Where a user finds the weights."""


def lungmask_lungs(volume: Volume, weights: Path | None) -> tuple[Mask, tuple[str, ...]]:
    """Lungs by the U-Net R231 of the lungmask package, from a state dict file.

    lungmask works on slices in LPS order and labels the right lung 1 and the left 2, as `Mask` does.
    Raises `UserError` when the package or the weights are missing, or the file is not such a state dict.
    """
    if importlib.util.find_spec("lungmask") is None:
        raise UserError("The lung method lungmask needs the lungmask package: pip install 'anatograph[lungmask]'.")
    if weights is None:
        raise UserError(
            f"The lung method lungmask needs its weights by path; get them once from {LUNGMASK_URL} "
            "and name the file, or use the method threshold."
        )
    if not weights.is_file():
        raise UserError(f"{weights}: there is no lungmask weights file; give the path of the .pth file.")
    labels: NDArray[np.uint8] = _inferer(weights, weights.stat().st_mtime_ns).apply(np.ascontiguousarray(volume.array))
    if not labels.any():
        raise UserError(
            f"lungmask found no lungs in {volume.source or 'the scan'}; check that it is a chest CT, or give a mask."
        )
    return Mask(labels.astype(np.uint8), volume.frame), (f"lungmask with the weights {weights.name}",)


@lru_cache(maxsize=1)
def _inferer(weights: Path, modified_ns: int) -> Any:
    """lungmask's network, kept from one scan of a process to the next."""
    from lungmask import LMInferer

    classes = _lungmask_classes(weights)
    if classes != 3:
        raise UserError(
            f"The lungmask weights {weights} predict {classes} classes; the lungs need a model of three "
            "(background, right, left) such as R231."
        )
    try:
        return LMInferer(modelpath=str(weights), tqdm_disable=True)
    except RuntimeError as error:
        raise UserError(
            f"{weights} is not a state dict of lungmask's U-Net; take the R231 file from {LUNGMASK_URL}."
        ) from error


def _lungmask_classes(weights: Path) -> int:
    """Number of classes of a state dict file, read without running any code that it may hold."""
    import torch

    try:
        state: Any = torch.load(weights, map_location="cpu", weights_only=True)
        return len(list(state.values())[-1])
    except Exception as error:
        raise UserError(
            f"{weights} cannot be read as a state dict of weights alone; take the R231 file from {LUNGMASK_URL}."
        ) from error


TOTALSEGMENTATOR_LOBES = {
    "lung_upper_lobe_right": Mask.RIGHT,
    "lung_middle_lobe_right": Mask.RIGHT,
    "lung_lower_lobe_right": Mask.RIGHT,
    "lung_upper_lobe_left": Mask.LEFT,
    "lung_lower_lobe_left": Mask.LEFT,
}
"""TotalSegmentator's lobes by side."""


def totalsegmentator_lungs(volume: Volume, weights: Path | None) -> tuple[Mask, tuple[str, ...]]:
    """Lungs as the five lobes of TotalSegmentator, with its weights folder on disk.

    Raises `UserError` when the package or the weights are missing.
    """
    if weights is not None and not weights.is_dir():
        raise UserError(
            f"{weights}: there is no folder of TotalSegmentator weights; give the path of the folder that holds them."
        )
    if weights is None:
        raise UserError(
            "The lung method totalsegmentator needs its weights folder by path (the nnunet/results folder that "
            "totalseg_download_weights fills on a machine with a network), or use the method threshold."
        )
    # Read when the package is imported, so set before it.
    os.environ["TOTALSEG_WEIGHTS_PATH"] = str(weights)
    try:
        from totalsegmentator.python_api import totalsegmentator
    except ImportError as error:
        raise UserError(
            "The lung method totalsegmentator needs the TotalSegmentator package (pip install "
            "'anatograph[totalsegmentator]') and its weights folder given by path."
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "ct.nii.gz", Path(folder) / "lobes"
        sitk.WriteImage(_image(volume), str(source))
        totalsegmentator(source, target, roi_subset=list(TOTALSEGMENTATOR_LOBES), quiet=True)
        array = np.zeros(volume.array.shape, dtype=np.uint8)
        for name, side in TOTALSEGMENTATOR_LOBES.items():
            lobe = sitk.GetArrayFromImage(sitk.ReadImage(str(target / f"{name}.nii.gz")))
            array[lobe > 0] = side
    if not array.any():
        raise UserError(
            f"TotalSegmentator found no lungs in {volume.source or 'the scan'}; check that it is a chest CT, or give a "
            "mask."
        )
    return Mask(array, volume.frame), (f"TotalSegmentator with the weights in {weights}",)


def _image(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.origin)
    image.SetDirection([float(v) for v in volume.direction.ravel()])
    return image
