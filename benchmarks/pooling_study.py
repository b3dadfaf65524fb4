"""What does each pooling of regions predict of the amount of a disease, and of where it is?

    python benchmarks/pooling_study.py STUDY COHORT EMBEDDINGS --json OUT.json

EMBEDDINGS are of STUDY, made by any pooling: the vectors are pooled again from their regions.  COHORT has disease
masks, from which the truth is computed at each landmark (`anatograph.evaluation.region_truth`): its mean over all
landmarks (total), over the upper third minus the lower third (by height), and over the left half minus the right half.
Each cell is R² over all held-out subjects, mean over ``--repeats`` divisions into five folds, by the probe of
`anatograph evaluate`; ``--plain`` also gives the probe that penalises all parts alike.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anatograph.embedding.regions import open_pair
from anatograph.evaluation.alignment import group_numbers
from anatograph.evaluation.cross_validation import cross_validate, seed_of_repeat
from anatograph.evaluation.metrics import r_squared
from anatograph.evaluation.region_truth import diseases_with_masks, region_truth
from anatograph.evaluation.targets import Target, read_target
from anatograph.learning.model.pooling import Parts, PoolingSettings
from anatograph.study.cohort import read_cohort

Array = NDArray[np.float64]
POOLINGS = {
    "mean (eq. 7)": PoolingSettings("mean"),
    "2 harmonics": PoolingSettings("harmonics", 2),
    "4 harmonics": PoolingSettings("harmonics", 4),
    "8 harmonics": PoolingSettings("harmonics", 8),
    "16 harmonics": PoolingSettings("harmonics", 16),
    "moments": PoolingSettings("moments"),
    "6 zones": PoolingSettings("zones"),
}


def questions(truth: dict[str, Array], landmarks: Array) -> dict[str, Array]:
    """Truth (S, N) of each disease as numbers a subject: the total, and two differences of place."""
    height = landmarks[:, 2]
    low, high = height.min(), height.max()
    upper, lower = height >= low + 2 / 3 * (high - low), height < low + (high - low) / 3
    left = landmarks[:, 0] >= (landmarks[:, 0].min() + landmarks[:, 0].max()) / 2
    found = {}
    for name, one in truth.items():
        found[f"{name}, total"] = one.mean(axis=1)
        found[f"{name}, upper minus lower"] = one[:, upper].mean(axis=1) - one[:, lower].mean(axis=1)
        found[f"{name}, left minus right"] = one[:, left].mean(axis=1) - one[:, ~left].mean(axis=1)
    return found


def held_out(features: Array, target: Target, groups: NDArray[np.int64] | None, parts: Parts, repeats: int) -> float:
    """R² over all held-out subjects, mean over the repeats."""
    own = features[target.rows]
    of_target = None if groups is None else groups[target.rows]
    scores = []
    for repeat in range(repeats):
        predicted = cross_validate(own, target, of_target, 5, seed_of_repeat(0, repeat), parts).predicted
        scores.append(r_squared(target.values, predicted))
    return float(np.mean(scores))


def main() -> None:
    """Read, pool, probe, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--target", nargs="*", default=["FEV1pp"], help="further columns of the cohort")
    parser.add_argument("--disease", nargs="*", help="names of diseases with masks (default: all)")
    parser.add_argument("--group", help="column of the patient")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="also without the choice of scales")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    study, regions = open_pair(args.study, args.embeddings)
    table = read_cohort(args.cohort).table.set_index("subject_id", drop=False)
    names = [name for name in regions.subject_ids if name in table.index]
    table = table.loc[names].reset_index(drop=True)
    diseases = args.disease or diseases_with_masks(table)
    truth = region_truth(study, table, args.cohort.resolve().parent, diseases)
    landmarks = np.asarray(study.atlas.landmarks, dtype=np.float64)
    rows = np.arange(len(names))
    targets = [Target(name, "regression", rows, values) for name, values in questions(truth, landmarks).items()]
    targets += [read_target(table, name, "regression") for name in args.target]
    groups = group_numbers(table, args.group) if args.group else None
    nodes = [regions.of(name) for name in names]

    found: dict[str, dict[str, float]] = {}
    for title, settings in tqdm(POOLINGS.items(), desc="poolings"):
        functions = regions.pooling(settings)
        features = np.stack([functions.pool(one) for one in nodes])
        found[title] = {t.name: held_out(features, t, groups, Parts(functions.parts), args.repeats) for t in targets}
        if args.plain and functions.parts > 1:
            plain = {t.name: held_out(features, t, groups, Parts(), args.repeats) for t in targets}
            found[f"{title}, penalised alike"] = plain
    print(f"\n{len(names)} subjects\n")
    print("| pooling |", " | ".join(t.name for t in targets), "|")
    print("|---|" + "---|" * len(targets))
    for title, scores in found.items():
        print(f"| {title} |", " | ".join(f"{scores[t.name]:.2f}" for t in targets), "|")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
