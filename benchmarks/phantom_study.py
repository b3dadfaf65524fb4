"""How much disease a pretrained embedding tells, on phantom people it never saw, against honest rivals.

    python benchmarks/phantom_study.py TRAIN_STUDY TRAIN_COHORT TEST_STUDY TEST_COHORT MODEL --json OUT.json

Probes are ridge regressions fitted on the people of the first cohort, their strength chosen by grouped folds among
those people, and scored on the people of the second. Region level: a landmark's feature against the diseased fraction
of its patch, all landmarks together. Subject level: the subject's feature against that of the lungs.

Rivals: the same network untrained (its BatchNorm statistics estimated on the same patches), the mean HU of each patch,
and plain densitometry (share of lung below -950 HU, share between -700 and -200 HU, mean, 15th percentile, volume).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from anatograph.learning.batchnorm import recalibrate_batchnorm
from anatograph.learning.graphs import make_graphs
from anatograph.learning.model import Model, load_model
from anatograph.study.store import Study

Array = NDArray[np.float64]
DISEASES = {"emphysema": ("emphysema_mask",), "ground_glass": ("ground_glass_mask",)}
STRENGTHS = np.logspace(-2, 6, 9)


def region_truth(cohort: Path, study: Study) -> dict[str, Array]:
    """Diseased fraction of every patch, (subjects, landmarks) for each disease."""
    table = pd.read_csv(cohort, dtype={"subject_id": str}).set_index("subject_id")
    truth: dict[str, Array] = {}
    for disease, columns in DISEASES.items():
        rows = []
        for subject_id in tqdm(study.subject_ids, desc=f"truth of {disease}", leave=False):
            landmarks = study.subject(subject_id).landmarks
            total = np.zeros(len(landmarks))
            for column in columns:
                path = table.loc[subject_id, column]
                if isinstance(path, str):
                    total += box_fraction(cohort.parent / path, landmarks, study.atlas.patch_size)
            rows.append(total)
        truth[disease] = np.array(rows)
    return truth


def box_fraction(mask: Path, landmarks: Array, size_mm: float) -> Array:
    """Share of the cube of ``size_mm`` around each landmark (N, 3) LPS mm that a mask fills, by an integral image."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(mask)), "LPS")
    array = sitk.GetArrayFromImage(image) > 0
    sums = np.pad(array.cumsum(0, dtype=np.int64).cumsum(1).cumsum(2), ((1, 0),) * 3)
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    shape = np.array(array.shape[::-1])
    low = np.clip(np.rint((landmarks - size_mm / 2 - origin) / spacing + 0.5).astype(int), 0, shape)
    high = np.clip(np.rint((landmarks + size_mm / 2 - origin) / spacing + 0.5).astype(int), 0, shape)
    total = np.zeros(len(landmarks))
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (np.where(bit, high[:, k], low[:, k]) for k, bit in enumerate(corner))
        total += (-1) ** (3 - sum(corner)) * sums[z, y, x]
    voxels = (size_mm / spacing).prod()
    return np.asarray(total / voxels)


def network_features(model: Model, study: Study) -> tuple[Array, Array, Array]:
    """Subject (S, F), node (S, N, F) and patch (S, N, F) features of a study."""
    found = []
    for subject_id in tqdm(study.subject_ids, desc="features", leave=False):
        subject = study.subject(subject_id)
        found.append(model.embed(subject.patches, subject.edges, subject.present, batch_size=128))
    return tuple(np.stack([f[k] for f in found]).astype(np.float64) for k in range(3))  # type: ignore[return-value]


def plain_features(study: Study) -> tuple[Array, Array]:
    """Mean HU of each patch (S, N, 1), and densitometry of the patches together (S, 6)."""
    regions, subjects = [], []
    for subject_id in tqdm(study.subject_ids, desc="densitometry", leave=False):
        subject = study.subject(subject_id)
        patches = np.clip(np.asarray(subject.patches, dtype=np.float32), -1024, 240)
        regions.append(patches.mean(axis=(1, 2, 3))[:, None])
        lung = patches[patches < -200]
        volume = subject.quality.get("lungs_volume_ml")
        subjects.append(
            [
                (lung < -950).mean(),
                ((lung > -700) & (lung < -200)).mean(),
                lung.mean(),
                np.percentile(lung, 15),
                lung.std(),
                float(volume or 0.0),
            ]
        )
    return np.array(regions, dtype=np.float64), np.array(subjects, dtype=np.float64)


def fit_and_score(
    x: Array, y: Array, groups: NDArray[Any], x_test: Array, y_test: Array, groups_test: NDArray[Any]
) -> tuple[float, float, float]:
    """R² on the test people of a ridge whose strength was chosen by grouped folds of the training people.

    With the 5th and 95th percentile over 200 resamplings of the test people.
    """
    keep, keep_test = np.isfinite(x).all(1) & np.isfinite(y), np.isfinite(x_test).all(1) & np.isfinite(y_test)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": STRENGTHS}, cv=GroupKFold(5), scoring="r2"
    )
    search.fit(x[keep], y[keep], groups=groups[keep])
    truth, guess, people = y_test[keep_test], search.predict(x_test[keep_test]), groups_test[keep_test]
    rows = [np.flatnonzero(people == person) for person in np.unique(people)]
    random = np.random.default_rng(0)
    spread = []
    for _ in range(200):
        drawn = np.concatenate([rows[k] for k in random.integers(len(rows), size=len(rows))])
        spread.append(r2_score(truth[drawn], guess[drawn]))
    low, high = np.percentile(spread, [5, 95])
    return float(r2_score(truth, guess)), float(low), float(high)


def untrained(model: Model, study: Study, seed: int) -> Model:
    """The same architecture with fresh weights, BatchNorm estimated on a sample of the study's patches."""
    torch.manual_seed(seed)
    fresh = Model(model.config, model.location_codes.cpu().numpy())
    random = np.random.default_rng(seed)
    batches = []
    for _ in range(16):
        ids = [study.subject_ids[k] for k in random.integers(len(study.subject_ids), size=128)]
        landmarks = random.integers(fresh.landmarks, size=128)
        batches.append(torch.from_numpy(study.read_patches(ids, landmarks)))
    recalibrate_batchnorm(fresh.encoder, (fresh.windowed(b) for b in batches))
    fresh.eval()
    if fresh.graph is not None:
        some = [study.subject(i) for i in study.subject_ids[:16]]
        h = torch.stack([torch.from_numpy(fresh.embed(s.patches, s.edges, s.present).patch_features) for s in some])
        graphs = make_graphs([s.edges for s in some], fresh.landmarks, np.stack([s.present for s in some]))
        recalibrate_batchnorm(fresh.graph, [h.nan_to_num()], lambda x: fresh.node_features(x, graphs))
    return fresh.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train_study", "train_cohort", "test_study", "test_cohort"):
        parser.add_argument(name, type=Path)
    parser.add_argument("models", type=Path, nargs="*", help="model folders; a run's model/ or others")
    parser.add_argument("--untrained-seeds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    train, test = Study.open(args.train_study), Study.open(args.test_study)
    truth, truth_test = region_truth(args.train_cohort, train), region_truth(args.test_cohort, test)
    tables = [
        pd.read_csv(c, dtype={"subject_id": str}).set_index("subject_id") for c in (args.train_cohort, args.test_cohort)
    ]
    extents = [t.loc[s.subject_ids] for t, s in zip(tables, (train, test), strict=True)]

    rows: list[dict[str, Any]] = []

    def score(method: str, level: str, x: Array, x_test: Array) -> None:
        for disease in DISEASES:
            if level == "subject":
                y, y_test = (e[f"{disease}_extent"].to_numpy(float) for e in extents)
                found = fit_and_score(x, y, np.arange(len(x)), x_test, y_test, np.arange(len(x_test)))
            else:
                y, y_test = truth[disease].ravel(), truth_test[disease].ravel()
                groups = np.repeat(np.arange(x.shape[0]), x.shape[1])
                groups_test = np.repeat(np.arange(x_test.shape[0]), x_test.shape[1])
                flat, flat_test = x.reshape(-1, x.shape[2]), x_test.reshape(-1, x_test.shape[2])
                found = fit_and_score(flat, y, groups, flat_test, y_test, groups_test)
            names = ("r2", "r2_low", "r2_high")
            scores = {name: round(value, 4) for name, value in zip(names, found, strict=True)}
            rows.append({"method": method, "level": level, "target": disease, **scores})
            print(rows[-1], flush=True)

    plain, plain_test = plain_features(train), plain_features(test)
    score("mean HU", "region", plain[0], plain_test[0])
    score("densitometry", "subject", plain[1], plain_test[1])
    models = [(str(path), load_model(path)) for path in args.models]
    if models:
        models += [(f"untrained {seed}", untrained(models[0][1], train, seed)) for seed in range(args.untrained_seeds)]
    for name, model in models:
        subject, nodes, patches = network_features(model, train)
        subject_test, nodes_test, patches_test = network_features(model, test)
        score(name, "region (nodes)", nodes, nodes_test)
        score(name, "region (patches)", patches, patches_test)
        score(name, "subject", subject, subject_test)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
