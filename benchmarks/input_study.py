"""What should a model be shown: whole patches or lung alone, at which inflation?

    python benchmarks/input_study.py STUDY COHORT [--group base]

Answered without any training, by the densities of what would be shown: the cumulative histogram of each patch
(`density-shares`), pooled as the default model pools, and the probe of `anatograph evaluate`. Each cell is R² over all
held-out subjects, mean over ``--repeats`` divisions into folds; region by region, from the masks of disease, it is of
the first division alone. Inflation is read from each lung (`anatograph.anatomy.lung_tissue`), or from both at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from anatograph.anatomy.lung_tissue import lung_tissue, parenchyma
from anatograph.evaluation.alignment import group_numbers
from anatograph.evaluation.cross_validation import cross_validate, seed_of_repeat
from anatograph.evaluation.folds import make_shared_folds
from anatograph.evaluation.metrics import r_squared
from anatograph.evaluation.region_truth import finite_regions, predict_regions, region_target, region_truth
from anatograph.evaluation.targets import Target, read_target
from anatograph.learning.model.density import CumulativeHistogram
from anatograph.learning.model.pooling import Parts, PoolingSettings, make_pooling
from anatograph.learning.model.whitening import whitening
from anatograph.learning.model.windowing import HU_WINDOW, window
from anatograph.study.cohort import read_cohort
from anatograph.study.store import Study

Array = NDArray[np.float64]


class Input(NamedTuple):
    """What is shown of a patch."""

    lungs_only: bool = True
    strength: float = 0.0
    each_lung: bool = True


INPUTS = {
    "whole patches": Input(lungs_only=False),
    "whole patches, inflation 0.7": Input(lungs_only=False, strength=0.7),
    "lung alone": Input(),
    "lung alone, inflation 0.5 of both lungs at once": Input(strength=0.5, each_lung=False),
    "lung alone, inflation 0.7 of both lungs at once": Input(strength=0.7, each_lung=False),
    "lung alone, inflation 0.25": Input(strength=0.25),
    "lung alone, inflation 0.5": Input(strength=0.5),
    "lung alone, inflation 0.7": Input(strength=0.7),
    "lung alone, inflation 1": Input(strength=1.0),
}
TARGETS = ("emphysema_extent", "ground_glass_extent", "emphysema_upper_minus_lower", "emphysema_right_minus_left",
           "ground_glass_upper_minus_lower", "ground_glass_right_minus_left", "FEV1pp")  # fmt: skip
BINS = 14
"""Densities of a patch."""
MASKED = ("emphysema", "ground_glass")


def histograms(study: Study, subject_id: str) -> dict[str, Array]:
    """(N, 14) of a subject for each of `INPUTS`, NaN where absent."""
    subject, histogram = study.subject(subject_id), CumulativeHistogram(*HU_WINDOW)
    patches, inside, there = subject.load_patches(), subject.load_inside(), subject.present
    both = parenchyma(patches[there], inside[there], np.ones(there.sum(), dtype=bool)).right
    found = {}
    for name, (lungs_only, strength, each_lung) in INPUTS.items():
        density = subject.parenchyma_hu if each_lung else both
        seen = lung_tissue(patches, inside if lungs_only else None, density, strength)
        rows = histogram.fractions(window(torch.from_numpy(seen), *HU_WINDOW)[:, None]).numpy().astype(np.float64)
        rows[~subject.present] = np.nan
        found[name] = rows
    return found


def r2_of_divisions(
    vectors: Array, target: Target, groups: NDArray[np.int64] | None, folds: int, repeats: int
) -> float:
    """R² over all held-out subjects, mean over divisions into folds; ``vectors`` and ``groups`` of all subjects."""
    rows, own = vectors[target.rows], None if groups is None else groups[target.rows]
    parts = Parts(vectors.shape[1] // BINS)
    rounds = [cross_validate(rows, target, own, folds, seed_of_repeat(0, repeat), parts) for repeat in range(repeats)]
    return float(np.mean([r_squared(target.values, np.asarray(one.predicted)) for one in rounds]))


def subjects_in(study: Study, cohort: Path) -> pd.DataFrame:
    """The rows of a cohort table whose subjects are in the study."""
    table = read_cohort(cohort).table
    return table[table["subject_id"].isin(study.subject_ids)].reset_index(drop=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--group", help="column of the cohort that no fold divides")
    parser.add_argument("--folds", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    study = Study.open(args.study)
    table = subjects_in(study, args.cohort)
    groups = group_numbers(table, args.group) if args.group else None
    pooling = make_pooling(PoolingSettings("harmonics", 4), study.atlas.landmarks)
    every = [histograms(study, str(name)) for name in tqdm(table["subject_id"], desc="densities")]
    names = [name for name in TARGETS if name in table]
    masked = [name for name in MASKED if f"{name}_mask" in table]
    truth = region_truth(study, table, args.cohort.resolve().parent, masked) if masked else {}
    splits = make_shared_folds([np.zeros(len(table), dtype=np.int64)], groups, args.folds, 0)
    print(
        f"| shown ({len(table)} subjects) | {' | '.join([*names, 'mean', *(f'region, {name}' for name in masked)])} |"
    )
    print(f"|---|{'---|' * (len(names) + 1 + len(masked))}")
    for shown in INPUTS:
        regions = np.stack([one[shown] for one in every])
        vectors = np.stack([pooling.pool(one) for one in regions @ whitening(regions, 0.5)])
        scores = [
            r2_of_divisions(vectors, read_target(table, name, "regression"), groups, args.folds, args.repeats)
            for name in names
        ]
        by_region = []
        for name in masked:
            target = region_target(name, truth[name], finite_regions(regions, truth))
            predicted = np.asarray(predict_regions(regions, target, splits, groups, 0).predicted)
            by_region.append(float(r_squared(target.values, predicted)))
        cells = [*scores, float(np.mean(scores)), *by_region]
        print(f"| {shown} | {' | '.join(f'{score:.2f}' for score in cells)} |", flush=True)


if __name__ == "__main__":
    main()
