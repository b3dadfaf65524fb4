"""Do the location codes reach the encoder's features, and are they any use there?

    python benchmarks/location_codes.py STUDY COHORT MODEL [MODEL …]

For each model: features before the graph at every fifth landmark of every second subject, with the landmarks' own
codes and with the same codes dealt out to other landmarks at random; the largest change of a feature, and R² region by
region of the share that is diseased (true masks), of all features and of the learned ones alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from context_study import Array, region_r2

from anatograph.embedding.sources import item_of
from anatograph.evaluation.region_truth import diseases_with_masks, region_truth
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import load_model
from anatograph.study.cohort import read_cohort
from anatograph.study.store import Study

_LANDMARKS, _SUBJECTS = 5, 2


def features(model: Model, study: Study, ids: list[str]) -> Array:
    """(S, N, F) before the graph, NaN at landmarks that are not asked for or absent."""
    found = []
    for name in ids:
        item = item_of(study.subject(name), model.config)
        some = np.zeros(model.landmarks, dtype=bool)
        some[::_LANDMARKS] = True
        there = some if item.present is None else some & np.asarray(item.present)
        embedding = model.embed(item.patches, item.edges, there, item.inside, item.parenchyma_hu)
        found.append(embedding.patch_features)
    return np.stack(found).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("cohort", type=Path, help="table with disease masks")
    parser.add_argument("models", type=Path, nargs="+", help="model folders")
    args = parser.parse_args()
    study = Study.open(args.study)
    table = read_cohort(args.cohort).table.set_index("subject_id", drop=False)
    ids = [name for name in study.subject_ids if name in table.index][::_SUBJECTS]
    table = table.loc[ids].reset_index(drop=True)
    truth = region_truth(study, table, args.cohort.resolve().parent, diseases_with_masks(table))
    subjects = np.arange(len(ids))
    print("| model | codes | largest change |", *(f"{name}, all | {name}, learned |" for name in truth))
    print("|---|---|---|" + "---|---|" * len(truth))
    for folder in args.models:
        model = load_model(folder)
        own = model.location_codes.clone()
        other = own[torch.randperm(len(own), generator=torch.Generator().manual_seed(0))]
        first = features(model, study, ids)
        for label, codes in (("own", own), ("random", other)):
            model.location_codes.copy_(codes)
            found = first if label == "own" else features(model, study, ids)
            learned = found[..., model.config.parts["learnt"]]
            scores = [f"{region_r2(part, y, subjects, 1):.3f}" for y in truth.values() for part in (found, learned)]
            print(f"| {folder} | {label} | {np.nanmax(np.abs(found - first)):.2f} | {' | '.join(scores)} |", flush=True)


if __name__ == "__main__":
    main()
