"""Do maps find the slices of a patient's CT that radiologists marked? The probes are fitted on phantoms alone.

    python benchmarks/covid_slices.py SCAN SLICES.csv STUDY EMBEDDINGS COHORT [--model MODEL] [--json FILE]

SLICES.csv has ``z_lps_mm`` and a column per lobe (``left_lower_lobe`` …), 1 where radiologists saw infection (as in
COVID-CT-MD). STUDY, EMBEDDINGS and COHORT are of phantoms, EMBEDDINGS by MODEL, the release that ships by default.
The score of a slice of one lung is the 90th percentile of a map over its voxels, and the AUC is of the marked slices
against the others of that lung. Maps:

* ``deviation``: `anatograph deviation` from the reference of the model, healthy phantoms. No labels.
* ``eq. 10``: what each region contributes to the probe of ``--target`` (`anatograph explain`).
* ``regions``: a probe of the diseased share of each patch, from the region's feature.
* ``densitometry``: no map, but the share of the lung's voxels in the slice between -700 and -200 HU.

Neighbouring slices are alike, so that intervals (95 %) are of a bootstrap of blocks of ``--block`` mm of slices.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from anatograph.embedding.regions import Regions, open_pair
from anatograph.embedding.table import beside
from anatograph.evaluation.alignment import align
from anatograph.evaluation.probes.linear import fit_probe
from anatograph.evaluation.region_truth import region_target, region_truth
from anatograph.evaluation.targets import read_target
from anatograph.explanation.contribution import Contribution, reference_of, towards
from anatograph.explanation.explainer import Explainer
from anatograph.explanation.norms.use import reference_of_scan, vectors_of_scan
from anatograph.explanation.painting import paint
from anatograph.imaging.reading import read_volume
from anatograph.imaging.resample import axis_aligned
from anatograph.imaging.volume import Mask
from anatograph.study.store import Study

Array = NDArray[np.float64]
SIDES = {"right": Mask.RIGHT, "left": Mask.LEFT}
LEAST_VOXELS = 50
"""Of a lung in a slice; smaller slices have no score."""
DRAWS = 2000


@dataclass(frozen=True, eq=False)
class Phantoms:
    """What the probes are fitted on."""

    study: Path
    embeddings: Path
    cohort: Path
    target: str
    """Name of a disease with masks, such as ``ground_glass``; its extent is ``NAME_extent``."""

    def contributions(self, nodes: NDArray[np.float32]) -> Array:
        """(N,) relative contributions of eq. 10 to the probe of the extent, fitted on all phantoms."""
        data = align(self.embeddings, self.cohort)
        regions = Regions(beside(self.embeddings, "regions"))
        explainer = Explainer(data, read_target(data.table, f"{self.target}_extent", "regression"), regions)
        fitted = explainer.fitted_for("")  # of no fold
        direction = replace(towards(fitted, None, explainer.pooling.pool(nodes)), pooling=explainer.pooling)
        names = [explainer.subject_ids[row] for row in fitted.target.rows]
        return Contribution("", direction.of(nodes), direction, reference_of(regions, names, direction)).relative

    def shares(self, nodes: NDArray[np.float32]) -> Array:
        """(N,) diseased share of each patch by a probe of regions, fitted on all phantoms; NaN where absent."""
        study, regions = open_pair(self.study, self.embeddings)
        table = align(self.embeddings, self.cohort).table
        truth = region_truth(study, table, self.cohort.parent, [self.target])[self.target]
        features = np.stack([regions.of(str(name)) for name in table["subject_id"]]).astype(np.float64)
        target = region_target(self.target, truth, np.isfinite(features).all(axis=2))
        subject = target.rows // truth.shape[1]
        probe = fit_probe(features.reshape(-1, features.shape[2])[target.rows], target.values, 0, subject)
        return probe.predict(nodes.astype(np.float64))


def slice_scores(heat: Array, own: NDArray[np.bool_]) -> Array:
    """(Z,) the 90th percentile of a map (Z, Y, X), NaN outside it, over one lung; NaN in slices with little of it."""
    own = own & np.isfinite(heat)
    enough = own.sum(axis=(1, 2)) > LEAST_VOXELS
    return np.array([np.quantile(h[o], 0.9) if good else np.nan for h, o, good in zip(heat, own, enough, strict=True)])


def auc_with_interval(marked: NDArray[np.bool_], score: Array, block: int, seed: int = 0) -> tuple[float, float, float]:
    """AUC of slices in their order, and its 95 % interval by a circular bootstrap of blocks of ``block`` slices."""
    random, drawn = np.random.default_rng(seed), []
    size = len(score)
    for _ in range(DRAWS):
        starts = random.integers(size, size=-(-size // block))
        rows = ((starts[:, None] + np.arange(block)) % size).ravel()[:size]
        if 0 < marked[rows].sum() < size:
            drawn.append(roc_auc_score(marked[rows], score[rows]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(roc_auc_score(marked, score)), float(low), float(high)


def covid_slices(
    scan: Path, slices: Path, phantoms: Phantoms, model: str | None = None, block_mm: float = 20.0
) -> pd.DataFrame:
    """One row for each map and lung: slices, how many are marked, mean of the map, and the AUC with its interval."""
    with vectors_of_scan(scan, ["scan"], model) as made:
        study = Study.open(made.study)
        subject, atlas = study.subject("scan"), study.atlas
        regions = Regions(beside(made.vectors, "regions"))
        lungs, landmarks = subject.lungs(), subject.landmarks
        deviation = reference_of_scan(None, made.model).calibrated.deviation(regions.unwhitened("scan"))
        nodes = regions.of("scan")
    values: Mapping[str, Array] = {
        "deviation": deviation, "eq. 10": phantoms.contributions(nodes), "regions": phantoms.shares(nodes)
    }  # fmt: skip
    hu = axis_aligned(read_volume(scan))
    if not lungs.frame.same_grid(hu.frame):
        raise SystemExit("the lungs are not on the grid of the scan")
    haze = (hu.array > -700) & (hu.array < -200)
    marks = pd.read_csv(slices)
    z = lungs.frame.origin[2] + lungs.frame.spacing[2] * np.arange(lungs.frame.shape[0])
    nearest = np.abs(z[:, None] - marks["z_lps_mm"].to_numpy()[None]).argmin(axis=1)
    block = max(1, round(block_mm / lungs.frame.spacing[2]))

    maps = {name: _painted(one, landmarks, atlas.patch_size, lungs.lungs, lungs.frame) for name, one in values.items()}
    rows = []
    for side, label in SIDES.items():
        lobes = [name for name in marks.columns if name.startswith(side)]
        marked = marks[lobes].to_numpy().any(axis=1)[nearest]
        own = lungs.array == label
        scores = {name: slice_scores(heat, own) for name, heat in maps.items()}
        size = own.sum(axis=(1, 2))
        with np.errstate(invalid="ignore"):
            scores["densitometry"] = np.where(size > LEAST_VOXELS, (haze & own).sum(axis=(1, 2)) / size, np.nan)
        for name, score in scores.items():
            known = np.isfinite(score)
            row = {"map": name, "lung": side, "slices": int(known.sum()), "marked": int(marked[known].sum()),
                   "mean": float(np.nanmean(maps[name][own]) if name in maps else haze[own].mean())}  # fmt: skip
            if 0 < row["marked"] < row["slices"]:
                row |= dict(zip(("auc", "low", "high"), auc_with_interval(marked[known], score[known], block),
                                strict=True))  # fmt: skip
            rows.append(row)
    return pd.DataFrame(rows)


def _painted(values: Array, *how: object) -> Array:
    """`paint` of values of either sign: (z, y, x), NaN where it has none."""
    offset = 1.0 - float(np.nanmin(values))
    heat = paint(values + offset, *how).astype(np.float64)  # type: ignore[arg-type]
    return np.where(heat > 0, heat - offset, np.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("scan", "slices", "study", "embeddings", "cohort"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--target", default="ground_glass", help="disease that the phantoms have masks and extents of")
    parser.add_argument("--model", help="the release that ships, if not given")
    parser.add_argument("--block", type=float, default=20.0, help="mm of slices that the bootstrap draws together")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    phantoms = Phantoms(args.study, args.embeddings, args.cohort, args.target)
    found = covid_slices(args.scan, args.slices, phantoms, args.model, args.block)
    print(found.round(3).to_string(index=False))
    if args.json:
        args.json.write_text(json.dumps(found.to_dict("records"), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
