"""A map of ground glass, learned from phantoms, on a patient's CT, against the slices marked by radiologists.

    python benchmarks/covid_slices.py SCAN SLICES.csv MODEL EMBEDDINGS COHORT

SLICES.csv has ``z_lps_mm``, ``infected`` and a column per lobe (``left_lower_lobe`` …), 1 where radiologists saw
infection (as in COVID-CT-MD). The probe of ``--target`` is fitted on the phantoms of EMBEDDINGS, which MODEL
made, and its weights are applied to the regions of the scan. For each lung a slice's score is the 90th percentile of
the map over its voxels; printed is the AUC of these scores against the marks, and the mean of each lung, and for
comparison the AUC of plain densitometry: the share of the lung's voxels in the slice between -700 and -200 HU.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from anatograph.embedding.regions import Regions
from anatograph.embedding.table import beside, parquet_path
from anatograph.evaluation.alignment import align
from anatograph.evaluation.targets import read_target
from anatograph.explanation.contribution import Contribution, Explainer, reference_of, towards
from anatograph.explanation.painting import paint
from anatograph.imaging.reading import read_volume
from anatograph.imaging.resample import axis_aligned
from anatograph.imaging.volume import Mask
from anatograph.learning.model.folder import load_model
from anatograph.study.prepare import prepare_subject
from anatograph.study.settings import PreprocessSettings


def covid_slices(
    scan: Path, slices: Path, model: Path, embeddings: Path, cohort: Path, target: str, lungs: str = "threshold"
) -> dict[str, float]:
    """The figures, by name."""
    data = align(embeddings, cohort)
    regions = Regions(beside(parquet_path(embeddings), "regions"))
    explainer = Explainer(data, read_target(data.table, target, "regression"), regions)
    network = load_model(model)
    if network.atlas is None:
        raise SystemExit(f"{model} has no atlas")
    volume = read_volume(scan)
    subject = prepare_subject(volume, None, network.atlas, PreprocessSettings(lungs=lungs), subject_id="scan")
    parenchyma = float(subject.quality["lungs_parenchyma_hu"])
    nodes = network.embed(subject.patches, subject.edges, subject.present, subject.inside, parenchyma).nodes
    fitted = explainer.fitted_for("scan")  # not in any fold, so it is fitted on all subjects
    direction = towards(fitted, None, np.nanmean(nodes, axis=0))
    names = [explainer.subject_ids[row] for row in fitted.target.rows]
    found = Contribution("scan", direction.of(nodes), direction, reference_of(regions, names, direction))
    frame = subject.lungs.frame
    hu = axis_aligned(volume)
    if not frame.same_grid(hu.frame):
        raise SystemExit("the lungs are not on the grid of the scan")
    heat = paint(found.values(), subject.landmarks, network.atlas.patch_size, subject.lungs.lungs, frame)

    marks = pd.read_csv(slices)
    z = frame.origin[2] + frame.spacing[2] * np.arange(frame.shape[0])
    nearest = np.abs(z[:, None] - marks["z_lps_mm"].to_numpy()[None]).argmin(axis=1)
    figures: dict[str, float] = {"predicted": direction.offset + direction.scale * found.answer}
    warm = {}
    for side, label in (("right", Mask.RIGHT), ("left", Mask.LEFT)):
        lobes = [name for name in marks.columns if name.startswith(side)]
        marked = marks[lobes].to_numpy().any(axis=1)[nearest]
        own = (subject.lungs.array == label) & (heat > 0)
        enough = np.flatnonzero(own.sum(axis=(1, 2)) > 50)
        score = np.array([np.quantile(heat[k][own[k]], 0.9) for k in enough])
        warm[side] = float(heat[own].mean())
        figures |= {f"slices marked, {side}": float(marked[enough].sum()), f"mean of the map, {side}": warm[side]}
        if 0 < marked[enough].sum() < len(enough):
            dense = np.array([_dense(hu.array[k], subject.lungs.array[k] == label) for k in enough])
            figures[f"AUC of slices, {side}"] = float(roc_auc_score(marked[enough], score))
            figures[f"AUC of slices, {side}, densitometry"] = float(roc_auc_score(marked[enough], dense))
    return figures


def _dense(hu: NDArray[np.int16], lung: NDArray[np.bool_]) -> float:
    """The share of a slice's lung between -700 and -200 HU."""
    inside = hu[lung]
    return float(((inside > -700) & (inside < -200)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("scan", "slices", "model", "embeddings", "cohort"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--target", default="ground_glass_extent")
    parser.add_argument("--lungs", default="threshold")
    args = parser.parse_args()
    found = covid_slices(args.scan, args.slices, args.model, args.embeddings, args.cohort, args.target, args.lungs)
    for name, value in found.items():
        print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main()
