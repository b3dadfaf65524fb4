"""The entry point to all lung segmentation methods, and the choice among them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anatograph.choices import LungMethod
from anatograph.errors import UserError
from anatograph.imaging.lungs.networks import lungmask_lungs, totalsegmentator_lungs
from anatograph.imaging.lungs.quality import PLAUSIBLE_ML, lung_quality
from anatograph.imaging.lungs.result import LungResult
from anatograph.imaging.lungs.threshold import threshold_lungs
from anatograph.imaging.volume import Mask, Volume

WEIGHTS_VARIABLE = "ANATOGRAPH_LUNGMASK_WEIGHTS"
"""Environment variable naming a lungmask weights file for ``auto`` and ``lungmask`` when none is given."""
FINDERS: dict[str, Callable[[Volume, Path | None], tuple[Mask, tuple[str, ...]]]] = {
    "threshold": lambda volume, weights: threshold_lungs(volume),
    "lungmask": lambda volume, weights: lungmask_lungs(volume, weights or _known_weights()),
    "totalsegmentator": totalsegmentator_lungs,
}
"""The methods: a scan and weights to a mask (right 1, left 2) on the scan's grid, and notes."""


def segment_lungs(volume: Volume, method: LungMethod = "auto", weights: Path | None = None) -> LungResult:
    """Lungs of a chest CT (HU, z, y, x), right 1 and left 2, on the scan's own grid.

    ``threshold`` needs nothing; ``lungmask`` a weights file (R231 state dict) and ``totalsegmentator`` a weights
    folder, both given by ``weights``: nothing is ever downloaded. ``auto`` takes lungmask where the package is
    installed and weights are available, else ``threshold``, and falls back when a result is implausible.
    Raises `UserError` where no lungs are found or a method cannot run.
    """
    if method == "auto":
        return _automatic(volume, weights)
    if method not in FINDERS:
        raise UserError(f"Unknown lung method {method!r}; choose one of auto, {', '.join(FINDERS)}.")
    return _run(volume, method, weights, ())


def _run(volume: Volume, method: str, weights: Path | None, notes: tuple[str, ...]) -> LungResult:
    mask, found = FINDERS[method](volume, weights)
    quality = lung_quality(mask, volume)
    if float(quality["right_ml"]) > 0 and float(quality["left_ml"]) > 0 and not sides_agree(mask):
        swapped = np.array([0, Mask.LEFT, Mask.RIGHT, Mask.UNSIDED], dtype=np.uint8)[mask.array]
        mask = Mask(swapped, mask.frame)
        quality = lung_quality(mask, volume)
        found = (*found, f"{method} had swapped right and left; the sides were assigned by position")
    return LungResult(mask, method, quality, notes + found)


def _known_weights() -> Path | None:
    """The weights file named by the environment, if any."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    return Path(named) if named else None


def _automatic(volume: Volume, weights: Path | None) -> LungResult:
    path = weights or _known_weights()
    if path is None:
        return _run(volume, "threshold", None, ("auto chose threshold: no weights for a network were given",))
    name = "totalsegmentator" if path.is_dir() else "lungmask"
    if importlib.util.find_spec(name) is None:
        note = f"auto chose threshold: weights were given but the package {name} is not installed"
        return _run(volume, "threshold", None, (note,))
    try:
        result = _run(volume, name, path, (f"auto chose {name}: installed, with weights at {path}",))
    except UserError as error:
        return _run(volume, "threshold", None, (f"auto fell back to threshold: {name} failed ({error})",))
    reason = implausible(result)
    if not reason:
        return result
    note = f"auto fell back to threshold: {name} gave {reason}"
    return _run(volume, "threshold", None, (note,))


def implausible(result: LungResult) -> str:
    """Why a mask cannot be both lungs of a human, or an empty string."""
    quality = result.quality
    total = float(quality["volume_ml"])
    if not PLAUSIBLE_ML[0] / 2 <= total <= PLAUSIBLE_ML[1]:
        return f"lungs of {total:.0f} ml"
    if not -970 < float(quality["mean_hu"]) < -250:
        return f"lungs with a mean density of {float(quality['mean_hu']):.0f} HU"
    return ""


def sides_agree(mask: Mask) -> bool:
    """Whether the right lung lies at smaller x (LPS: towards the patient's right) than the left."""
    columns = range(mask.array.shape[2])
    centre = []
    for side in (Mask.RIGHT, Mask.LEFT):
        profile = (mask.array == side).sum(axis=(0, 1))
        centre.append(float((profile * columns).sum()) / float(profile.sum()))
    return centre[0] < centre[1]
