"""Should kernel and noise be normalised before densities are measured?

    python benchmarks/scanner_normalisation.py STUDY COHORT [--group base | --leave-out site]

Answered without any training, by the densities of the patches as the default model is shown them (lung alone, at a
common inflation), pooled as it pools, with the probe of `anatograph evaluate`. They are measured as they are; smoothed;
and with two bands of fine structure scaled to a common strength, in the way of Gallardo-Estrella et al. 2016: what a
Gaussian of 0.8 mm takes away, and what one of 1.6 mm takes away beyond that, are scaled so that their standard
deviation in parenchyma, by the median absolute deviation, is that of a scan of medium kernel and dose (28 and 14 HU).

Each cell is R² over all held-out subjects, mean over ``--repeats`` divisions into folds; with ``--leave-out`` the
second half of the table is of subjects of a value that the fit did not see.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from input_study import BINS, TARGETS, r2_of_divisions, subjects_in
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from anatograph.anatomy.lung_tissue import OUTSIDE_HU, lung_tissue
from anatograph.evaluation.alignment import group_numbers
from anatograph.evaluation.cross_validation import predict_splits
from anatograph.evaluation.leave_out import leave_out
from anatograph.evaluation.metrics import r_squared
from anatograph.evaluation.targets import Target, read_target
from anatograph.learning.model.density import CumulativeHistogram
from anatograph.learning.model.pooling import Parts, PoolingSettings, make_pooling
from anatograph.learning.model.whitening import whitening
from anatograph.learning.model.windowing import HU_WINDOW, window
from anatograph.study.store import Study

Array = NDArray[np.float64]
FINE, COARSE = 0.8, 1.6
"""Standard deviation in mm of the two Gaussians."""
WANTED = (28.0, 14.0)
"""Standard deviation in HU of the two bands."""
LIMITS = ((0.3, 1.5), (0.5, 1.5))
"""Least and greatest factor of each band."""
PARENCHYMA = (-930.0, -700.0)
"""Densities in HU, after the coarse Gaussian, between which the bands are measured: no vessels, no holes."""
LOG = ("FEV1pp", "FEV1_FVC")
WAYS = ("as they are", f"smoothed by {FINE:g} mm", "bands at a common strength")


def histograms(study: Study, subject_id: str) -> dict[str, Array]:
    """(N, 14) of a subject for each of `WAYS`, NaN where absent."""
    subject, histogram = study.subject(subject_id), CumulativeHistogram(*HU_WINDOW)
    patches, inside = subject.load_patches(), subject.load_inside()
    shown = lung_tissue(patches, None, subject.parenchyma_hu, 0.7).astype(np.float32)
    lung = inside.astype(np.float32)
    fine, coarse = smoothed(shown, lung, FINE), smoothed(shown, lung, COARSE)
    bands = shown - fine, fine - coarse
    measured = inside & (coarse > PARENCHYMA[0]) & (coarse < PARENCHYMA[1])
    scaled = coarse.copy()
    for band, wanted, limits in zip(bands, WANTED, LIMITS, strict=True):
        spread = 1.4826 * float(np.median(np.abs(band[measured]))) if measured.any() else wanted
        scaled += band * np.clip(wanted / max(spread, 1.0), *limits)
    found = {}
    for way, seen in zip(WAYS, (shown, fine, scaled), strict=True):
        hu = np.where(inside, np.clip(np.rint(seen), -1024, 3000), OUTSIDE_HU).astype(np.int16)
        rows = histogram.fractions(window(torch.from_numpy(hu), *HU_WINDOW)[:, None]).numpy().astype(np.float64)
        rows[~subject.present | (inside.mean(axis=(1, 2, 3)) < 0.01)] = np.nan
        found[way] = rows
    return found


def smoothed(patches: NDArray[np.float32], lung: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Patches (N, P, P, P) after a Gaussian within the lung: what lies outside has no weight."""

    def blur(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(gaussian_filter(values, (0, sigma, sigma, sigma), mode="nearest", truncate=3))

    smooth: NDArray[np.float32] = blur(patches * lung) / np.maximum(blur(lung), 1e-3)
    return smooth


def target_of(table: pd.DataFrame, name: str) -> Target:
    """A question, lung function on the logarithmic scale."""
    target = read_target(table, name, "regression")
    return dataclasses.replace(target, values=np.log(target.values)) if name in LOG else target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--group", help="column of the cohort that no fold divides")
    parser.add_argument("--leave-out", help="column whose values are left out one at a time")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    study = Study.open(args.study)
    table = subjects_in(study, args.cohort)
    groups = group_numbers(table, args.group) if args.group else None
    held_out = leave_out(table, args.leave_out) if args.leave_out else None
    pooling = make_pooling(PoolingSettings("harmonics", 4), study.atlas.landmarks)
    every = [histograms(study, str(name)) for name in tqdm(table["subject_id"], desc="densities")]
    names = [name for name in dict.fromkeys((*LOG, *TARGETS)) if name in table]
    print(f"| densities ({len(table)} subjects) | {' | '.join(names)} |")
    print(f"|---|{'---|' * len(names)}")
    others = []
    for way in WAYS:
        regions = np.stack([one[way] for one in every])
        vectors = np.stack([pooling.pool(one) for one in regions @ whitening(regions, 0.5)])
        inner, outer, parts = [], [], Parts(vectors.shape[1] // BINS)
        for name in names:
            target = target_of(table, name)
            inner.append(r2_of_divisions(vectors, target, groups, args.folds, args.repeats))
            if held_out is not None:
                one = predict_splits(vectors[target.rows], target, None, held_out.splits_of(target), 0, parts)
                outer.append(r_squared(target.values, np.asarray(one.predicted)))
        print(f"| {way} | {' | '.join(f'{score:.2f}' for score in inner)} |", flush=True)
        if held_out is not None:
            others.append(f"| {way} | {' | '.join(f'{score:.2f}' for score in outer)} |")
    if others:
        print("\n".join([f"| *one {args.leave_out} left out* |{' |' * len(names)}", *others]))


if __name__ == "__main__":
    main()
