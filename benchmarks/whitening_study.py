"""How far to whiten: what linear probes tell of people when embeddings are whitened not, in part, or wholly.

    python benchmarks/whitening_study.py EMBEDDINGS COHORT --target FEV1pp FEV1_FVC CLE --log FEV1pp FEV1_FVC

EMBEDDINGS are the table that ``anatograph embed`` wrote, with its regions beside it. The model's own whitening is
undone, the scatter of regions within people estimated on these people, and everybody's vector whitened by each share.
R² of ridge probes (every target as a number) over ``--repeats`` times five folds, the same for all shares.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import r2_score
from sklearn.model_selection import RepeatedKFold

from anatograph.analysis.embedding_file import beside, parquet_path, read_embeddings
from anatograph.analysis.linear import fit_probe
from anatograph.analysis.region_store import Regions
from anatograph.learning.whitening import MOST, whitening

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--target", nargs="+", required=True)
    parser.add_argument("--log", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=4)
    args = parser.parse_args()
    ids = list(read_embeddings(args.embeddings).subject_ids)
    table = pd.read_csv(args.cohort, dtype={"subject_id": str}).set_index("subject_id").loc[ids]
    regions = Regions(beside(parquet_path(args.embeddings), "regions"))
    nodes = np.stack([regions.unwhitened(name) for name in ids]).astype(np.float64)
    people, some = np.nanmean(nodes, axis=1), nodes[:: -(-len(nodes) // MOST)]
    print("share", *args.target, sep="\t")
    for share in SHARES:
        vectors, found = people @ whitening(some, share), []
        for name in args.target:
            column = table[name].to_numpy(float)
            known = np.isfinite(column)
            values = np.log(column[known]) if name in args.log else column[known]
            folds = RepeatedKFold(n_splits=5, n_repeats=args.repeats, random_state=0)
            scores = []
            for train, test in folds.split(values):
                probe = fit_probe(vectors[known][train], values[train], 0)
                scores.append(r2_score(values[test], probe.predict(vectors[known][test])))
            found.append(f"{np.mean(scores):.3f}")
        print(share, *found, sep="\t", flush=True)


if __name__ == "__main__":
    main()
