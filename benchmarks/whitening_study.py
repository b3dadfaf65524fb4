"""How far to whiten: the accuracy of linear probes on embeddings whitened not at all, partially, or fully.

    python benchmarks/whitening_study.py EMBEDDINGS COHORT --target FEV1pp FEV1_FVC CLE --log FEV1pp FEV1_FVC

EMBEDDINGS is the table written by ``anatograph embed``, with its regions beside it. The model's own whitening is
undone, the within-subject scatter of regions is estimated on these subjects, and all vectors are whitened with each
exponent. R² of ridge probes (every target as a number) over ``--repeats`` five-fold rounds, the same for all exponents;
with ``--test EMBEDDINGS COHORT`` of further subjects, seen neither by the model nor by the scatter, R² of probes fitted
on all of the first and scored on those.
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
from anatograph.evaluation.probes.linear import fit_probe
from anatograph.learning.model.whitening import MOST, whitening

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


Array = NDArray[np.float64]


def load(embeddings: Path, cohort: Path, targets: list[str], log: list[str]) -> tuple[Array, dict[str, Array]]:
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
    parser.add_argument(
        "--test", type=Path, nargs=2, metavar=("EMBEDDINGS", "COHORT"), help="held-out subjects to score on"
    )
    args = parser.parse_args()
    nodes, values = load(args.embeddings, args.cohort, args.target, args.log)
    held_out = load(*args.test, args.target, args.log) if args.test else None
    vectors, some = np.nanmean(nodes, axis=1), nodes[:: -(-len(nodes) // MOST)]
    print("share", *args.target, sep="\t")
    for share in SHARES:
        matrix, cells = whitening(some, share), []
        for name in args.target:
            known = np.isfinite(values[name])
            x, y = vectors[known] @ matrix, values[name][known]
            if held_out is None:
                splits = RepeatedKFold(n_splits=5, n_repeats=args.repeats, random_state=0).split(y)
                scores = [r2_score(y[b], fit_probe(x[a], y[a], 0).predict(x[b])) for a, b in splits]
            else:
                valid = np.isfinite(held_out[1][name])
                predicted = fit_probe(x, y, 0).predict(np.nanmean(held_out[0][valid], axis=1) @ matrix)
                scores = [r2_score(held_out[1][name][valid], predicted)]
            cells.append(f"{np.mean(scores):.3f}")
        print(share, *cells, sep="\t", flush=True)


if __name__ == "__main__":
    main()
