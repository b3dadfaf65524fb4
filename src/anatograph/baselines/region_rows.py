"""Region by region: does a landmark's feature predict the diseased fraction of its patch? Needs disease masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.design import Design
from anatograph.baselines.row_runner import Say
from anatograph.baselines.row_store import RowStore
from anatograph.errors import UserError
from anatograph.evaluation.region_truth import (
    diseases_with_masks,
    finite_regions,
    predict_regions,
    region_target,
    region_truth,
)
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.targets import Target
from anatograph.study.store import Study

Array = NDArray[np.float64]
PATCH_DENSITY = "patch-density"
"""Slug of the baseline of these rows."""
PATCH_DENSITY_TITLE = "Plain density of the patch"


@dataclass(frozen=True, eq=False)
class RegionTruth:
    """Disease masks reduced to patches."""

    fractions: Mapping[str, Array]
    """(S, N) diseased fraction of each patch, by disease, NaN where unknown."""
    present: NDArray[np.bool_]
    """(S, N) patches inside the scan."""


@dataclass(frozen=True, eq=False)
class RegionRow:
    """Predictions from a method's region features."""

    slug: str
    """The method."""
    targets: list[Target]
    """One for each disease; ``rows`` index the flattened (S, N)."""
    predictions: list[Predictions]
    """First round of cross-validation."""


def read_truth(design: Design, work: Path, say: Say) -> RegionTruth:
    """The ground truth of the design's subjects, cached in ``work``.

    Raises:
        UserError: the cohort has no masks, or they cannot be read.
    """
    diseases = diseases_with_masks(design.table)
    if not diseases:
        raise UserError(
            "The cohort has no masks of disease (columns such as emphysema_mask), so there is no ground truth for "
            "regions; omit --region-truth."
        )
    present = design.study.present([str(name) for name in design.table["subject_id"]])
    columns = [f"{name}_mask" for name in diseases]
    store = RowStore(work / f"region-truth-{design.labels_digest(columns)}-{design.study_digest()}")
    fractions = store.load("truth")
    if fractions is None:
        say(f"reading masks of {', '.join(diseases)} of {len(design.table)} subjects")
        fractions = region_truth(design.study, design.table, design.folder, diseases)
        store.save("truth", fractions)
    return RegionTruth({name: fractions[name] for name in diseases}, present)


def run_regions(regions: Array, design: Design, truth: RegionTruth, store: RowStore) -> None:
    """Predict every patch from its feature (S, N, D) in the folds of the first round, and store the predictions."""
    targets = _targets(truth, finite_regions(regions, truth.fractions))
    arrays: dict[str, Array] = {}
    for target in targets:
        done = predict_regions(regions, target, design.rounds[0], design.groups, design.seed)
        arrays |= {f"rows {target.name}": target.rows.astype(np.float64), f"said {target.name}": done.predicted}
        arrays |= {f"fold {target.name}": done.fold.astype(np.float64), f"mean {target.name}": done.majority}
    store.save("regions", arrays)


def read_regions(slug: str, truth: RegionTruth, store: RowStore) -> RegionRow | None:
    """What `run_regions` stored; None if there is nothing."""
    stored = store.load("regions")
    if stored is None:
        return None
    targets, predictions = [], []
    for name, fractions in truth.fractions.items():
        if f"rows {name}" not in stored:
            continue
        rows = stored[f"rows {name}"].astype(np.int64)
        targets.append(Target(name, "regression", rows, fractions.ravel()[rows]))
        fold = stored[f"fold {name}"].astype(np.int64)
        predictions.append(Predictions(fold, stored[f"said {name}"], None, stored[f"mean {name}"]))
    return RegionRow(slug, targets, predictions)


def run_patch_density(design: Design, truth: RegionTruth, folder: Path, say: Say) -> None:
    """The baseline of these rows, computed once: six density statistics of each patch."""
    store = RowStore(folder / PATCH_DENSITY)
    if store.load("regions") is None:
        say(f"{PATCH_DENSITY}: {PATCH_DENSITY_TITLE}")
        run_regions(patch_density(design.study, design), design, truth, store)


def patch_density(study: Study, design: Design) -> Array:
    """(S, N, 6) mean, SD, 15th, 50th and 85th percentile of HU and share below -950 HU of every patch.

    HU are clipped to [-1024, 240]; percentiles use every seventh voxel.
    """
    statistics = []
    for name in design.table["subject_id"]:
        patches = np.clip(np.asarray(study.subject(str(name)).patches, dtype=np.float32), -1024, 240)
        flat = patches.reshape(len(patches), -1)
        low, middle, high = np.percentile(flat[:, ::7], (15, 50, 85), axis=1)
        statistics.append(np.stack([flat.mean(1), flat.std(1), low, middle, high, (flat < -950).mean(1)], axis=1))
    return np.array(statistics, dtype=np.float64)


def _targets(truth: RegionTruth, finite: NDArray[np.bool_]) -> list[Target]:
    """The diseases present in at least one patch."""
    targets = []
    for name, fractions in truth.fractions.items():
        try:
            targets.append(region_target(name, fractions, finite & truth.present))
        except UserError:
            continue
    if not targets:
        raise UserError("None of the diseases with masks in the cohort occurs in any patch of these subjects.")
    return targets
