"""Region by region, where there are masks of disease: does a landmark's feature tell how much of its patch is ill?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.plan import Plan
from anatograph.baselines.rows import RowStore, Say
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
"""Slug of the floor of these rows."""
PATCH_DENSITY_TITLE = "Plain density of the patch"


@dataclass(frozen=True, eq=False)
class RegionTruth:
    """What masks say of every patch of everybody."""

    fractions: Mapping[str, Array]
    """(S, N) diseased fraction of each patch, by disease, NaN where not known."""
    present: NDArray[np.bool_]
    """(S, N) patches inside the scan."""


@dataclass(frozen=True, eq=False)
class RegionRow:
    """What a method's features of regions told."""

    slug: str
    """The method."""
    targets: list[Target]
    """One for each disease; ``rows`` index the flattened (S, N)."""
    predictions: list[Predictions]
    """First round of cross-validation."""


def read_truth(plan: Plan, work: Path, say: Say) -> RegionTruth:
    """The truth of the plan's people, kept in ``work`` once it is made.

    Raises:
        UserError: no masks in the cohort, or none that can be read.
    """
    diseases = diseases_with_masks(plan.table)
    if not diseases:
        raise UserError(
            "The cohort has no masks of disease (columns such as emphysema_mask), so it has no truth of regions; "
            "leave --region-truth out."
        )
    present = plan.study.present([str(name) for name in plan.table["subject_id"]])
    columns = [f"{name}_mask" for name in diseases]
    store = RowStore(work / f"region-truth-{plan.labels_digest(columns)}-{plan.study_digest()}")
    fractions = store.part("truth")
    if fractions is None:
        say(f"reading masks of {', '.join(diseases)} of {len(plan.table)} people")
        fractions = region_truth(plan.study, plan.table, plan.folder, diseases)
        store.folder.mkdir(parents=True, exist_ok=True)
        store.keep("truth", fractions)
    return RegionTruth({name: fractions[name] for name in diseases}, present)


def run_regions(regions: Array, plan: Plan, truth: RegionTruth, store: RowStore) -> None:
    """Predict every patch in the folds of the plan's first round from its feature (S, N, D), and keep it."""
    targets = _targets(truth, finite_regions(regions, truth.fractions))
    found: dict[str, Array] = {}
    for target in targets:
        done = predict_regions(regions, target, plan.rounds[0], plan.groups, plan.seed)
        found |= {f"rows {target.name}": target.rows.astype(np.float64), f"said {target.name}": done.predicted}
        found |= {f"fold {target.name}": done.fold.astype(np.float64), f"mean {target.name}": done.majority}
    store.folder.mkdir(parents=True, exist_ok=True)
    store.keep("regions", found)


def read_regions(slug: str, truth: RegionTruth, store: RowStore) -> RegionRow | None:
    """What `run_regions` kept; None if there is nothing."""
    kept = store.part("regions")
    if kept is None:
        return None
    targets, predictions = [], []
    for name, fractions in truth.fractions.items():
        if f"rows {name}" not in kept:
            continue
        rows = kept[f"rows {name}"].astype(np.int64)
        targets.append(Target(name, "regression", rows, fractions.ravel()[rows]))
        fold = kept[f"fold {name}"].astype(np.int64)
        predictions.append(Predictions(fold, kept[f"said {name}"], None, kept[f"mean {name}"]))
    return RegionRow(slug, targets, predictions)


def run_patch_density(plan: Plan, truth: RegionTruth, folder: Path, say: Say) -> None:
    """The floor of these rows, once: six plain figures of each patch."""
    store = RowStore(folder / PATCH_DENSITY)
    if store.part("regions") is None:
        say(f"{PATCH_DENSITY}: {PATCH_DENSITY_TITLE}")
        run_regions(patch_density(plan.study, plan), plan, truth, store)


def patch_density(study: Study, plan: Plan) -> Array:
    """(S, N, 6) mean, spread, 15th, 50th and 85th percentile of HU and share below -950 HU of every patch.

    HU are cut to [-1024, 240]; percentiles are of every seventh voxel.
    """
    found = []
    for name in plan.table["subject_id"]:
        patches = np.clip(np.asarray(study.subject(str(name)).patches, dtype=np.float32), -1024, 240)
        flat = patches.reshape(len(patches), -1)
        low, middle, high = np.percentile(flat[:, ::7], (15, 50, 85), axis=1)
        found.append(np.stack([flat.mean(1), flat.std(1), low, middle, high, (flat < -950).mean(1)], axis=1))
    return np.array(found, dtype=np.float64)


def _targets(truth: RegionTruth, finite: NDArray[np.bool_]) -> list[Target]:
    """The diseases of which some patch holds something."""
    targets = []
    for name, fractions in truth.fractions.items():
        try:
            targets.append(region_target(name, fractions, finite & truth.present))
        except UserError:
            continue
    if not targets:
        raise UserError("No patch of these people holds any of the diseases that the cohort has masks of.")
    return targets
