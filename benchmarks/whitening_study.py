"""How far to whiten: what linear probes tell of people when embeddings are whitened not, in part, or wholly.

    python benchmarks/whitening_study.py EMBEDDINGS COHORT --target FEV1pp FEV1_FVC CLE --log FEV1pp FEV1_FVC

EMBEDDINGS are the table that ``anatograph embed`` wrote, with its regions beside it. The model's own whitening is
undone, the scatter of regions within people estimated on these people, and everybody's vector whitened by each share.
R² of ridge probes (every target as a number) over ``--repeats`` times five folds, the same for all shares; with
``--test EMBEDDINGS COHORT`` of other people, whom neither the model nor the scatter has seen, of probes fitted on all
of the first ones and scored on these.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import r2_score
from sklearn.model_selection import RepeatedKFold

from anatograph.embedding.regions import Regions
from anatograph.embedding.table import beside, parquet_path, read_embeddings
from anatograph.evaluation.linear import fit_probe
from anatograph.learning.model.whitening import MOST, whitening

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


Array = NDArray[np.float64]


def people_of(embeddings: Path, cohort: Path, targets: list[str], log: list[str]) -> tuple[Array, dict[str, Array]]:
    """Nodes (S, N, F) before the model's whitening, and each target's values (S,), NaN where unknown."""
    ids = list(read_embeddings(embeddings).subject_ids)
    table = pd.read_csv(cohort, dtype={"subject_id": str}).set_index("subject_id").loc[ids]
    regions = Regions(beside(parquet_path(embeddings), "regions"))
    nodes = np.stack([regions.unwhitened(name) for name in ids]).astype(np.float64)
    columns = {name: table[name].to_numpy(float) for name in targets}
    return nodes, {name: np.log(values) if name in log else values for name, values in columns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--target", nargs="+", required=True)
    parser.add_argument("--log", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--test", type=Path, nargs=2, metavar=("EMBEDDINGS", "COHORT"), help="people to score on")
    args = parser.parse_args()
    nodes, values = people_of(args.embeddings, args.cohort, args.target, args.log)
    others = people_of(*args.test, args.target, args.log) if args.test else None
    people, some = np.nanmean(nodes, axis=1), nodes[:: -(-len(nodes) // MOST)]
    print("share", *args.target, sep="\t")
    for share in SHARES:
        matrix, found = whitening(some, share), []
        for name in args.target:
            known = np.isfinite(values[name])
            x, y = people[known] @ matrix, values[name][known]
            if others is None:
                splits = RepeatedKFold(n_splits=5, n_repeats=args.repeats, random_state=0).split(y)
                scores = [r2_score(y[b], fit_probe(x[a], y[a], 0).predict(x[b])) for a, b in splits]
            else:
                there = np.isfinite(others[1][name])
                guess = fit_probe(x, y, 0).predict(np.nanmean(others[0][there], axis=1) @ matrix)
                scores = [r2_score(others[1][name][there], guess)]
            found.append(f"{np.mean(scores):.3f}")
        print(share, *found, sep="\t", flush=True)


if __name__ == "__main__":
    main()
