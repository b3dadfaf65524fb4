"""Do the maps find the disease? AUC against the diseased regions and voxels of phantoms, whose truth is known.

    python benchmarks/heatmap_auc.py STUDY COHORT EMBEDDINGS --json OUT.json

Region level: a landmark's score against whether more than ``--threshold`` of its patch is diseased, all landmarks of
all subjects together (``auc``), and within each subject with both kinds of region, averaged (``auc_within``): a map
that only separates diseased from healthy subjects has 0.5 there. Voxel level (``auc_voxels``): the painted map against
the disease mask, over every ``--voxel-step``-th lung voxel covered by a patch, in subjects with the disease. Intervals
are the 5th and 95th percentile over 500 bootstrap samples of the subjects.

Scores, each without the subject's own labels or scan:

* ``eq. 10``: M_j of a probe of the disease's extent, fitted on the other folds. ``evaluate`` or ``smooth`` is the
  probe (`anatograph explain --probe`), ``relative`` M_j minus the median of the training subjects at that landmark, as
  drawn by `anatograph explain`; ``absolute`` is M_j itself.
* ``eq. 10, …, yes or no``: the same for a logistic probe of whether the extent exceeds ``--sick``.
* ``deviation``: `anatograph deviation` from all other subjects, and from those matching ``--reference``. No labels.
* ``densitometry``: the share of the patch's lung below -950 HU (emphysema, paraseptal), of its lung from -700 to -200
  HU (ground glass), of the patch above -700 HU (consolidation).
* ``densitometry, relative``: the same minus its median over the other subjects at the same landmark.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import NDArray
from phantom_study import DISEASES, region_truth
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from anatograph.choices import ProbeKind
from anatograph.embedding.regions import open_pair
from anatograph.errors import UserError
from anatograph.evaluation.alignment import align
from anatograph.evaluation.targets import read_target
from anatograph.explanation.explainer import Explainer
from anatograph.explanation.painting import paint
from anatograph.explanation.reference import ReferenceCohort, reference_cohort
from anatograph.study.store import Study

Array = NDArray[np.float64]
Scores = dict[str, Array]
KINDS: tuple[ProbeKind, ...] = ("evaluate", "smooth")
"""Probes of `anatograph explain`, its default first."""


def truth_of(cohort: Path, study: Study, names: list[str]) -> dict[str, Array]:
    """Diseased fraction of every patch, (subjects, landmarks) for each disease."""
    known = region_truth(cohort, study)
    rows = [study.subject_ids.index(name) for name in names]
    return {disease: known[disease][rows] for disease in DISEASES}


def density_of(study: Study, names: list[str]) -> dict[str, Array]:
    """Share of each patch's lung voxels in each disease's range of HU, (subjects, landmarks)."""
    found: dict[str, list[Array]] = {disease: [] for disease in DISEASES}
    for name in tqdm(names, desc="densitometry", leave=False):
        patches = np.asarray(study.subject(name).patches)[:, ::2, ::2, ::2].reshape(len(study.atlas), -1)
        lung = patches < -200
        count = np.maximum(lung.sum(axis=1), 1)
        low = (patches < -950).sum(axis=1) / count
        haze = ((patches > -700) & lung).sum(axis=1) / count
        dense = (patches > -700).sum(axis=1) / patches.shape[1]
        for disease in DISEASES:
            found[disease].append({"ground_glass": haze, "consolidation": dense}.get(disease, low))
    return {disease: np.array(rows) for disease, rows in found.items()}


def relative(values: Array) -> Array:
    """(subjects, landmarks) less the median of the others at the same landmark."""
    found = np.empty_like(values)
    for row in range(len(values)):
        found[row] = values[row] - np.nanmedian(np.delete(values, row, axis=0), axis=0)
    return found


def contributions(explainer: Explainer, names: list[str]) -> tuple[Array, Array, Array]:
    """M_j as it stands, relative, and as drawn, (subjects, landmarks) each."""
    found = [explainer.contribution(name) for name in names]
    return (
        np.array([f.raw for f in found]),
        np.array([f.relative for f in found]),
        np.array([f.values() for f in found]),
    )


def deviations(reference: ReferenceCohort, explained: dict[str, NDArray[np.float32]]) -> Array:
    """(subjects, landmarks) calibrated deviations, each subject excluded from its own reference."""
    rows = []
    for name, nodes in tqdm(explained.items(), desc="deviation", leave=False):
        rows.append(reference.without([name])[0].deviation(nodes))
    return np.array(rows)


def region_aucs(score: Array, sick: NDArray[np.bool_], seed: int = 0) -> dict[str, float]:
    """AUC over all regions with its interval over subjects, and the mean within subjects."""
    known = np.isfinite(score)
    if not (sick & known).any() or (sick & known).sum() == known.sum():
        return {}
    subjects = range(len(score))
    one = [
        roc_auc_score(sick[i][known[i]], score[i][known[i]])
        for i in subjects
        if 0 < sick[i][known[i]].sum() < known[i].sum()
    ]
    random, drawn = np.random.default_rng(seed), []
    for _ in range(500):
        rows = random.integers(len(score), size=len(score))
        k, y = known[rows], sick[rows]
        if 0 < y[k].sum() < k.sum():
            drawn.append(fast_auc(y[k], score[rows][k]))
    low, high = np.percentile(drawn, [5, 95])
    values = {
        "auc": fast_auc(sick[known], score[known]),
        "low": low,
        "high": high,
        "auc_within": np.mean(one) if one else np.nan,
    }
    return {key: round(float(value), 4) for key, value in values.items()} | {"diseased_subjects": len(one)}


def fast_auc(truth: NDArray[np.bool_], score: Array) -> float:
    """Area under the ROC curve from ranks (ties shared)."""
    from scipy.stats import rankdata

    ranks = rankdata(score)
    positive = int(truth.sum())
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive)))


def voxel_auc(
    cohort: Path, table: pd.DataFrame, study: Study, names: list[str], scores: Array, disease: str, step: int
) -> float:
    """AUC of the painted map over every ``step``-th lung voxel of those who have the disease."""
    truths, values = [], []
    for row, name in enumerate(tqdm(names, desc=f"voxels, {disease}", leave=False)):
        if not float(table.loc[name, f"{disease}_extent"]) > 0:
            continue
        subject = study.subject(name)
        lungs = subject.lungs()
        image = sitk.DICOMOrient(sitk.ReadImage(str(cohort.parent / table.loc[name, f"{disease}_mask"])), "LPS")
        truth = sitk.GetArrayFromImage(image) > 0
        if truth.shape != lungs.frame.shape:
            raise SystemExit(f"the masks of {name} are not on the scan's grid")
        shifted = scores[row] - np.nanmin(scores) + 1  # 0 is kept for no value
        heat = paint(shifted, subject.landmarks, study.atlas.patch_size, lungs.lungs, lungs.frame)
        inside = np.flatnonzero(heat > 0)[::step]
        truths.append(truth.ravel()[inside])
        values.append(heat.ravel()[inside].astype(np.float64))
    return round(fast_auc(np.concatenate(truths), np.concatenate(values)), 4) if truths else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument(
        "--threshold", type=float, default=0.05, help="fraction of a patch from which a region counts as diseased"
    )
    parser.add_argument("--sick", type=float, default=0.005, help="extent from which a subject counts as diseased")
    parser.add_argument("--reference", default="diagnosis=healthy", help="of the second deviation; '' for none")
    parser.add_argument("--voxel-step", type=int, default=101, help="use every n-th voxel; 0 skips voxels")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--no-densitometry", dest="densitometry", action="store_false", help="skip it: it reads all patches"
    )
    parser.add_argument("--no-deviation", dest="deviation", action="store_false", help="skip it: it takes longest")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    study, regions = open_pair(args.study, args.embeddings)
    data = align(args.embeddings, args.cohort)
    table = data.table.set_index("subject_id", drop=False)
    names = [name for name in data.table["subject_id"] if name in study]
    truth = truth_of(args.cohort, study, names)
    density = density_of(study, names) if args.densitometry else {}
    nodes = {name: regions.unwhitened(name) for name in names}
    present = np.array([study.subject(name).present for name in names])

    deviation: Scores = {}
    if args.deviation:
        deviation["deviation, all subjects"] = deviations(reference_cohort(regions)[0], nodes)
    if args.deviation and args.reference:
        try:
            reference = reference_cohort(regions, args.cohort, args.reference)[0]
            deviation[f"deviation, {args.reference}"] = deviations(reference, nodes)
        except UserError as error:
            print(f"skipped: {error}")
    rows = []
    for disease in DISEASES:
        scores: Scores = {}
        drawn: Scores = {}
        try:
            extent = read_target(data.table, f"{disease}_extent", "regression")
            data.table["_sick"] = np.where(data.table[f"{disease}_extent"] > args.sick, "sick", "free")
            sick = read_target(data.table, "_sick")
            for kind in KINDS:
                explainer = Explainer(data, extent, regions, None, args.folds, args.seed, kind)
                raw, rel, drawn[f"eq. 10, {kind}, relative"] = contributions(explainer, names)
                scores |= {f"eq. 10, {kind}, relative": rel, f"eq. 10, {kind}, absolute": raw}
                binary = Explainer(data, sick, regions, None, args.folds, args.seed, kind)
                sign = -1 if binary.contribution(names[0]).direction.class_name == "free" else 1
                scores[f"eq. 10, {kind}, yes or no, relative"] = sign * contributions(binary, names)[1]
        except UserError as error:
            print(f"{disease}: {error}")
        scores |= deviation
        if density:
            scores |= {"densitometry": density[disease], "densitometry, relative": relative(density[disease])}
        for name, score in scores.items():
            held = np.where(present, score, np.nan)
            found: dict[str, object] = {"disease": disease, "score": name}
            found |= region_aucs(held, truth[disease] > args.threshold, args.seed)
            if args.voxel_step and name in (f"eq. 10, {KINDS[0]}, relative", "deviation, all subjects", "densitometry"):
                shown = drawn.get(name, held)
                found["auc_voxels"] = voxel_auc(args.cohort, table, study, names, shown, disease, args.voxel_step)
            rows.append(found)
            print(found, flush=True)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
