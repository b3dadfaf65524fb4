"""How well a pretrained embedding predicts disease on held-out phantoms, compared with simple baselines.

    python benchmarks/phantom_study.py TRAIN_STUDY TRAIN_COHORT TEST_STUDY TEST_COHORT MODEL --json OUT.json

Probes are ridge regressions fitted on the subjects of the first cohort, with the penalty chosen by grouped folds among
these, and scored on the subjects of the second. Region level: a landmark's feature against the diseased fraction
of its patch, all landmarks together. Subject level: the subject's feature against that of the lungs.

Levels: ``encoder`` (C), ``projection`` (f_l), ``nodes`` (after G), ``subject``. With ``--step 4`` only every fourth
landmark is used, without G and subjects: quick, for comparing many short runs of the patch level; subjects are then
evaluated by repeated folds over both cohorts together (level ``mean of regions``, `subject_probes.py`). The true
extents of a cohort are cached in ``region_truth.npz`` beside its table.

Baselines: the same network with random weights (BatchNorm statistics estimated on the same patches), the mean HU of
each patch, six density statistics of it, the 14-bin cumulative density histogram that is an input of the network,
and densitometry (share of lung below -950 HU, share between -700 and -200 HU, mean, 15th percentile, volume).
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from subject_probes import subject_scores
from tqdm import tqdm

from anatograph.embedding.sources import item_of, shown_of
from anatograph.evaluation.region_truth import region_truth as patch_truth
from anatograph.learning.contrast.batchnorm import recalibrate_batchnorm
from anatograph.learning.data.shown import source_of
from anatograph.learning.model.density import CumulativeHistogram
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import load_model
from anatograph.learning.model.graphs import make_graphs
from anatograph.learning.model.networks import pool_nodes
from anatograph.learning.model.windowing import HU_WINDOW, window
from anatograph.learning.training.launch import bf16_on_processor
from anatograph.study.store import Study

Array = NDArray[np.float64]
DISEASES = ("emphysema", "paraseptal", "ground_glass", "consolidation")
STRENGTHS = np.logspace(-2, 6, 9)


def region_truth(cohort: Path, study: Study) -> dict[str, Array]:
    """Diseased fraction of every patch, (subjects, landmarks) for each disease."""
    cache = cohort.parent / "region_truth.npz"
    if cache.is_file():
        with np.load(cache) as known:
            if known["ids"].tolist() == list(study.subject_ids) and set(DISEASES) < set(known):
                return {disease: known[disease] for disease in DISEASES}
    table = extents_of(cohort, study).reset_index()
    with tqdm(total=len(table), desc="truth", leave=False) as bar:
        truth = patch_truth(study, table, cohort.parent, DISEASES, lambda *_: bar.update())
    np.savez(cache, ids=np.array(study.subject_ids), **truth)  # type: ignore[arg-type]
    return truth


def extents_of(cohort: Path, study: Study) -> pd.DataFrame:
    """The rows of a cohort's table for a study's subjects, in the study's order."""
    table = pd.read_csv(cohort, dtype={"subject_id": str}).set_index("subject_id")
    return table.loc[list(study.subject_ids)]


@torch.inference_mode()
def network_features(model: Model, study: Study, step: int) -> dict[str, Array]:
    """Features of a study by level: subject (S, F); nodes, projection and encoder (S, N, F).

    With ``step`` above 1 only every ``step``-th landmark, and no nodes or subjects.
    """
    found: dict[str, list[Array]] = {}
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16_on_processor() and step > 1)
    model.eval()
    for subject_id in tqdm(study.subject_ids, desc="features", leave=False):
        subject = study.subject(subject_id)
        rows = np.arange(0, model.landmarks, step)
        seen = shown_of(subject, model.config)
        encoded = []
        for some in np.split(rows, range(96, len(rows), 96)):
            patches = torch.from_numpy(np.ascontiguousarray(seen[some]))
            with autocast:
                encoded.append(model.encode(patches, model.location_codes[some]).float())
        c = torch.cat(encoded)
        parts, size = model.config.parts, model.config.contrast_size
        h = torch.cat([model.project(c[:, :size], model.location_codes[rows]), c[:, size:]], dim=1)
        levels = {"encoder": c, "projection": h, "learnt part of encoder": c[:, parts["learnt"]]}
        if step == 1:
            graphs = make_graphs([subject.edges], model.landmarks, subject.present[None])
            nodes = model.node_features((h if model.config.graph_input == "projection" else c)[None], graphs)
            levels |= {"nodes": nodes[0], "subject": pool_nodes(nodes, graphs.present)[0]}
            levels["mean of encoder"] = c[torch.from_numpy(subject.present)].mean(0)
        absent = torch.from_numpy(~subject.present[rows])
        for name, value in levels.items():
            kept = value.masked_fill(absent[:, None], float("nan")) if value.ndim == 2 else value
            found.setdefault(name, []).append(kept.numpy().astype(np.float64))
    return {name: np.stack(values) for name, values in found.items()}


BASELINES = ("mean HU", "density statistics", "density histogram")


def plain_features(study: Study) -> tuple[list[Array], Array]:
    """Each patch's mean HU (S, N, 1), six density statistics (S, N, 6), and the density histogram that ends a model
    feature (S, N, 14); each subject's densitometry (S, 6)."""
    means, statistics, shares, subjects = [], [], [], []
    density = CumulativeHistogram(*HU_WINDOW)
    for subject_id in tqdm(study.subject_ids, desc="densitometry", leave=False):
        subject = study.subject(subject_id)
        patches = np.clip(np.asarray(subject.patches, dtype=np.float32), -1024, 240)
        flat = patches.reshape(len(patches), -1)
        means.append(flat.mean(axis=1)[:, None])
        low, middle, high = np.percentile(flat[:, ::7], (15, 50, 85), axis=1)
        statistics.append(np.stack([flat.mean(1), flat.std(1), low, middle, high, (flat < -950).mean(1)], axis=1))
        shares.append(density.fractions(window(torch.from_numpy(patches), *HU_WINDOW)[:, None]).numpy())
        lung = patches[patches < -200]
        volume = subject.quality.get("lungs_volume_ml")
        dark_and_dense = [(lung < -950).mean(), ((lung > -700) & (lung < -200)).mean()]
        subjects.append([*dark_and_dense, lung.mean(), np.percentile(lung, 15), lung.std(), float(volume or 0.0)])
    regions = [np.array(means, dtype=np.float64), np.array(statistics, dtype=np.float64)]
    regions.append(np.array(shares, dtype=np.float64))
    return regions, np.array(subjects, dtype=np.float64)


def fit_and_score(
    x: Array, y: Array, groups: NDArray[Any], x_test: Array, y_test: Array, groups_test: NDArray[Any]
) -> tuple[float, float, float]:
    """R² on the test subjects of a ridge whose penalty was chosen by grouped folds of the training subjects.

    With the 5th and 95th percentile over 200 bootstrap samples of the test subjects.
    """
    keep, keep_test = np.isfinite(x).all(1) & np.isfinite(y), np.isfinite(x_test).all(1) & np.isfinite(y_test)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": STRENGTHS}, cv=GroupKFold(5), scoring="r2"
    )
    search.fit(x[keep], y[keep], groups=groups[keep])
    truth, predicted, subjects = y_test[keep_test], search.predict(x_test[keep_test]), groups_test[keep_test]
    rows = [np.flatnonzero(subjects == subject) for subject in np.unique(subjects)]
    random = np.random.default_rng(0)
    spread = []
    for _ in range(200):
        drawn = np.concatenate([rows[k] for k in random.integers(len(rows), size=len(rows))])
        spread.append(r2_score(truth[drawn], predicted[drawn]))
    low, high = np.percentile(spread, [5, 95])
    return float(r2_score(truth, predicted)), float(low), float(high)


def random_weights(model: Model, study: Study, seed: int) -> Model:
    """The same architecture with new random weights, BatchNorm estimated on a sample of the study's patches."""
    torch.manual_seed(seed)
    fresh = Model(model.config, model.location_codes.cpu().numpy())
    random = np.random.default_rng(seed)
    batches = []
    for _ in range(16):
        ids = [study.subject_ids[k] for k in random.integers(len(study.subject_ids), size=128)]
        landmarks = random.integers(fresh.landmarks, size=128)
        batches.append(torch.from_numpy(source_of(study, model.config).read_patches(ids, landmarks)))
    recalibrate_batchnorm(fresh.encoder, (fresh.windowed(b) for b in batches))
    fresh.eval()
    if fresh.graph is not None:
        some = [study.subject(i) for i in study.subject_ids[:16]]
        h = torch.stack([torch.from_numpy(fresh.embed(*item_of(s, model.config)[1:]).patch_features) for s in some])
        graphs = make_graphs([s.edges for s in some], fresh.landmarks, np.stack([s.present for s in some]))
        recalibrate_batchnorm(fresh.graph, [h.nan_to_num()], lambda x: fresh.node_features(x, graphs))
    return fresh.eval()


def permuted_codes(model: Model) -> Model:
    """The same model, each landmark with the location code of another."""
    other = copy.deepcopy(model)
    order = np.random.default_rng(0).permutation(model.landmarks)
    other.location_codes = model.location_codes[torch.from_numpy(order)]
    return other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train_study", "train_cohort", "test_study", "test_cohort"):
        parser.add_argument(name, type=Path)
    parser.add_argument("models", type=Path, nargs="*", help="model folders; a run's model/ or others")
    parser.add_argument("--random-seeds", type=int, default=1)
    parser.add_argument("--step", type=int, default=1, help="use every n-th landmark")
    parser.add_argument("--permuted-codes", action="store_true", help="also score each model with permuted codes")
    parser.add_argument("--no-baselines", dest="baselines", action="store_false", help="score the given models only")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    train, test = Study.open(args.train_study), Study.open(args.test_study)
    truth, truth_test = region_truth(args.train_cohort, train), region_truth(args.test_cohort, test)
    extents = [extents_of(c, s) for c, s in ((args.train_cohort, train), (args.test_cohort, test))]

    rows: list[dict[str, Any]] = []

    def score(method: str, level: str, x: Array, x_test: Array) -> None:
        for disease in DISEASES:
            if level in ("subject", "mean of encoder"):
                y, y_test = (e[f"{disease}_extent"].to_numpy(float) for e in extents)
                found = fit_and_score(x, y, np.arange(len(x)), x_test, y_test, np.arange(len(x_test)))
            else:
                y, y_test = (t[disease][:, :: args.step].ravel() for t in (truth, truth_test))
                groups = np.repeat(np.arange(x.shape[0]), x.shape[1])
                groups_test = np.repeat(np.arange(x_test.shape[0]), x_test.shape[1])
                flat, flat_test = x.reshape(-1, x.shape[2]), x_test.reshape(-1, x_test.shape[2])
                found = fit_and_score(flat, y, groups, flat_test, y_test, groups_test)
            names = ("r2", "r2_low", "r2_high")
            scores = {name: round(value, 4) for name, value in zip(names, found, strict=True)}
            rows.append({"method": method, "level": level, "target": disease, **scores})
            print(rows[-1], flush=True)

    if args.baselines:
        plain, plain_test = plain_features(train), plain_features(test)
        for name, one, other in zip(BASELINES, plain[0], plain_test[0], strict=True):
            score(name, "region", one[:, :: args.step], other[:, :: args.step])
        score("densitometry", "subject", plain[1], plain_test[1])
    models = [(str(path), load_model(path)) for path in args.models]
    if models and args.baselines:
        models += [
            (f"random weights {seed}", random_weights(models[0][1], train, seed)) for seed in range(args.random_seeds)
        ]
    if args.permuted_codes:
        models += [(f"{name}, location codes permuted", permuted_codes(model)) for name, model in list(models)]
    for name, model in models:
        of_train, of_test = network_features(model, train, args.step), network_features(model, test, args.step)
        for level in of_train:
            score(name, level, of_train[level], of_test[level])
        if args.step > 1:
            for level in ("encoder", "learnt part of encoder"):
                both = np.concatenate([of_train[level], of_test[level]])
                for target, value in subject_scores(both, pd.concat(extents)).items():
                    row = {"method": name, "level": f"mean of {level}", "target": target, "r2": round(value, 4)}
                    rows.append(row)
                    print(rows[-1], flush=True)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=2))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
