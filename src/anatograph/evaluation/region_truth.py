"""Where masks of disease are known: the diseased share of each patch, and how well its feature predicts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.evaluation.cross_validation import predict_splits
from anatograph.evaluation.folds import Split
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.targets import Target
from anatograph.imaging.native import native_name
from anatograph.study.store import Study

MASK, EXTENT = "_mask", "_extent"
"""``NAME_mask`` is the column of a disease's masks; ``NAME_extent``, where there is one, its share of the lungs."""


def diseases_with_masks(table: pd.DataFrame) -> list[str]:
    """Names of the diseases that a cohort table has masks of, in the order of its columns."""
    return [str(name)[: -len(MASK)] for name in table.columns if str(name).endswith(MASK) and str(name) != MASK]


def region_truth(
    study: Study,
    table: pd.DataFrame,
    folder: Path,
    diseases: Sequence[str],
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Diseased fraction of every patch, (S, N) for each disease.

    ``table`` (S rows) has ``subject_id`` and ``NAME_mask``, files relative to ``folder``.  Nothing is read for subjects
    whose ``NAME_extent`` is 0; subjects without a mask are NaN.

    Raises:
        UserError: a mask that is named but cannot be read.
    """
    size = float(study.atlas.patch_size)
    truth = {name: np.full((len(table), int(study.about["landmarks"])), np.nan) for name in diseases}
    for row, (_, subject) in enumerate(table.iterrows()):
        landmarks = study.subject(str(subject["subject_id"])).landmarks
        for name in diseases:
            extent = subject.get(f"{name}{EXTENT}")
            if extent is not None and float(extent) == 0.0:
                truth[name][row] = 0.0
            elif isinstance(subject[f"{name}{MASK}"], str) and subject[f"{name}{MASK}"]:
                truth[name][row] = box_fraction(folder / subject[f"{name}{MASK}"], landmarks, size)
        if progress:
            progress(str(subject["subject_id"]), row + 1, len(table))
    return truth


def box_fraction(mask: Path, landmarks: NDArray[np.float64], size_mm: float) -> NDArray[np.float64]:
    """Share of the cube of ``size_mm`` around each landmark (N, 3) LPS mm that a mask fills, by an integral image.

    Edges of a cube are rounded to whole voxels.

    Raises:
        UserError: a file that cannot be read as an image.
    """
    try:
        image = sitk.DICOMOrient(sitk.ReadImage(native_name(mask)), "LPS")
    except RuntimeError as error:
        raise UserError(f"The mask {mask} cannot be read as an image; fix the cohort table or the file.") from error
    array = sitk.GetArrayFromImage(image) > 0
    sums = np.pad(array.cumsum(0, dtype=np.int64).cumsum(1).cumsum(2), ((1, 0),) * 3)
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    shape = np.array(array.shape[::-1])
    low = np.clip(np.rint((landmarks - size_mm / 2 - origin) / spacing + 0.5).astype(int), 0, shape)
    high = np.clip(np.rint((landmarks + size_mm / 2 - origin) / spacing + 0.5).astype(int), 0, shape)
    total = np.zeros(len(landmarks))
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (np.where(bit, high[:, k], low[:, k]) for k, bit in enumerate(corner))
        total += (-1) ** (3 - sum(corner)) * sums[z, y, x]
    voxels = (size_mm / spacing).prod()
    return np.asarray(total / voxels)


def region_target(name: str, truth: NDArray[np.float64], usable: NDArray[np.bool_]) -> Target:
    """The patches (S, N) where ``usable`` as rows of a regression; ``rows`` index the flattened array.

    Raises:
        UserError: where no patch holds anything of the disease.
    """
    rows = np.flatnonzero(usable & np.isfinite(truth)).astype(np.int64)
    values = truth.ravel()[rows]
    if not len(values) or np.ptp(values) == 0:
        raise UserError(f"No patch of these subjects holds any {name}, so there is nothing to predict.")
    return Target(name, "regression", rows, values)


def predict_regions(
    features: NDArray[np.float64],
    target: Target,
    splits: Sequence[Split],
    groups: NDArray[np.int64] | None,
    seed: int,
) -> Predictions:
    """Predict each patch of ``target`` from its feature, by a probe fitted on the patches of other subjects.

    ``features`` (S, N, D), finite where the target has rows; ``splits`` and ``groups`` (S,) are of subjects, which the
    folds that choose the penalty do not split either.
    """
    subjects, landmarks, width = features.shape
    subject = target.rows // landmarks
    flat = features.reshape(-1, width)[target.rows]
    unit = subject if groups is None else groups[subject]
    by_patch = []
    for train, test in splits:
        inside = np.zeros((2, subjects), dtype=bool)
        inside[0, train], inside[1, test] = True, True
        by_patch.append((np.flatnonzero(inside[0, subject]), np.flatnonzero(inside[1, subject])))
    return predict_splits(flat, target, unit, by_patch, seed)


def finite_regions(regions: NDArray[np.float64], truth: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
    """(S, N) where a landmark has a feature.

    Raises:
        ValueError: features of other subjects or landmarks than the truth.
    """
    shape = next(iter(truth.values())).shape
    if regions.shape[:2] != shape:
        raise ValueError(f"features of regions are {regions.shape}, the truth is {shape}")
    return np.asarray(np.isfinite(regions).all(axis=2))
