"""What the neighbourhood of a region adds to the region itself, on frozen features.

    anatograph embed STUDY OUT --patch-features; anatograph embed NORMAL-STUDY NORMAL --patch-features
    python benchmarks/context_study.py STUDY COHORT OUT --normal NORMAL [--group base]

Two questions of the graph, each with the best that a linear map of the neighbours could do:

1. R² region by region, of the share of a region that is diseased, by ridge regression on the features before the graph
   (h), after it (the model's regions, h'), h with the mean of its neighbours, and h with h'.
2. Regions diseased by more than a tenth against those without the disease: AUC of the distance from the usual, of h
   itself and of what of h cannot be predicted from the neighbours' (the task of predicting a masked region). Usual is
   the mean of NORMAL at each landmark; prediction and covariance are estimated there too, without labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anatograph.embedding.regions import Regions, open_pair
from anatograph.embedding.table import beside, parquet_path
from anatograph.evaluation.region_truth import diseases_with_masks, region_truth
from anatograph.study.cohort import read_cohort

Array = NDArray[np.float64]
DISEASED = 0.1
"""Share of a region from which it is called diseased in the second question."""
_EVERY = 3
"""Regions used of each subject in the first question: one of so many, for speed."""


def neighbours(h: Array, edges: NDArray[np.int64]) -> Array:
    """(S, N, F) mean over the neighbours that are present, NaN rows being absent; 0 where there is none."""
    joined = np.zeros((h.shape[1],) * 2)
    joined[edges[:, 0], edges[:, 1]] = joined[edges[:, 1], edges[:, 0]] = 1.0
    there = np.isfinite(h).all(axis=2)
    count = there @ joined
    return np.asarray((joined @ np.nan_to_num(h)) / np.maximum(count, 1.0)[..., None], dtype=np.float64)


def region_r2(features: Array, truth: Array, groups: NDArray[np.int64], every: int = _EVERY) -> float:
    """R² over all held-out regions; ``features`` (S, N, F), ``truth`` (S, N), nine folds of whole groups."""
    known = np.isfinite(features).all(axis=2) & np.isfinite(truth)
    x, y = features[known][::every], truth[known][::every]
    of = np.broadcast_to(groups[:, None], known.shape)[known][::every]
    predicted = np.zeros(len(y))
    for train, test in GroupKFold(min(9, len(np.unique(groups)))).split(x, y, of):
        probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11)))
        predicted[test] = probe.fit(x[train], y[train]).predict(x[test])
    return float(r2_score(y, predicted))


class Usual:
    """What is usual at each landmark, and what the neighbours say of it."""

    def __init__(self, h: Array, edges: NDArray[np.int64]) -> None:
        self.edges, self.middle = edges, np.nanmean(h, axis=0)
        own, around = self._centred(h)
        square = around.T @ around
        self.predict = np.linalg.solve(
            square + 1e-3 * np.trace(square) / len(square) * np.eye(len(square)), around.T @ own
        )
        self.roots = [_root(own), _root(own - around @ self.predict)]

    def _centred(self, h: Array) -> tuple[Array, Array]:
        off = h - self.middle
        known = np.isfinite(h).all(axis=2)
        return off[known], neighbours(off, self.edges)[known]

    def distances(self, h: Array) -> tuple[Array, Array]:
        """(regions,) squared distances of the present regions of h (S, N, F): of h, and of what is not predicted."""
        own, around = self._centred(h)
        parts = (own, own - around @ self.predict)
        first, second = (((part @ root) ** 2).sum(axis=1) for part, root in zip(parts, self.roots, strict=True))
        return first, second


def _root(rows: Array) -> Array:
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    return np.asarray(vectors / np.sqrt(np.maximum(values, 1e-4 * values.max())), dtype=np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("cohort", type=Path, help="table with disease masks")
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--normal", type=Path, help="embeddings from which the usual is estimated (question 2)")
    parser.add_argument("--group", help="column that identifies the base subject")
    args = parser.parse_args()

    study, regions = open_pair(args.study, args.embeddings)
    table = read_cohort(args.cohort).table.set_index("subject_id", drop=False)
    ids = [name for name in regions.subject_ids if name in table.index]
    table = table.loc[ids].reset_index(drop=True)
    truth = region_truth(study, table, args.cohort.resolve().parent, diseases_with_masks(table))
    groups = pd.factorize(table[args.group])[0] if args.group else np.arange(len(table))
    edges = np.asarray(study.subject(ids[0]).edges, dtype=np.int64)
    before = Regions(beside(parquet_path(args.embeddings), "patches"))
    h = np.stack([before.of(name) for name in ids]).astype(np.float64)
    nodes = np.stack([regions.of(name) for name in ids]).astype(np.float64)
    shown = {"h": h, "h'": nodes, "h and neighbours": np.concatenate([h, neighbours(h, edges)], axis=2),
             "h and h'": np.concatenate([h, nodes], axis=2)}  # fmt: skip
    print(f"| R², region by region | {' | '.join(shown)} |\n|---|{'---|' * len(shown)}")
    for name, values in truth.items():
        scores = [region_r2(features, values, groups) for features in shown.values()]
        print(f"| {name} | {' | '.join(f'{score:.3f}' for score in scores)} |", flush=True)
    if args.normal is None:
        return
    normal = Regions(beside(parquet_path(args.normal), "patches"))
    usual = Usual(np.stack([normal.of(name) for name in normal.subject_ids]).astype(np.float64), edges)
    known = np.isfinite(h).all(axis=2)
    found = usual.distances(h)
    print("\n| AUC, unusual | h | what neighbours do not predict |\n|---|---|---|")
    for name, values in truth.items():
        share = values[known]
        asked = (share > DISEASED) | (share == 0)
        scores = [float(roc_auc_score(share[asked] > DISEASED, distance[asked])) for distance in found]
        print(f"| {name} | {' | '.join(f'{score:.3f}' for score in scores)} |", flush=True)


if __name__ == "__main__":
    main()
