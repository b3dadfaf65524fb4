"""The small cohort's study, and quick settings that are quicker still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from small_cohort import SUBJECTS, small_atlas, write_small_cohort
from synthetic_study import SyntheticStudy, make_synthetic_study

from anatograph.baselines.features import scan_features
from anatograph.baselines.method import Scans
from anatograph.baselines.methods import cnn2d, cnn3d, moco, models_genesis, subject2vec
from anatograph.baselines.networks.supervised import TrainingSchedule
from anatograph.evaluation.probes.linear import fit_probe
from anatograph.study.preprocess import preprocess
from anatograph.study.store import Study


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> SyntheticStudy:
    """Forty subjects with synthetic patches; tests read it only."""
    return make_synthetic_study(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table; the study lies beside it."""
    folder = tmp_path_factory.mktemp("baselines")
    table = write_small_cohort(folder)
    account = preprocess(table, folder / "study", small_atlas(), "given", "affine", progress=False)
    assert not account.failures
    return table


@pytest.fixture(scope="session")
def surveyed(cohort: Path) -> Path:
    """A work folder in which the pass over the scans is done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scan_features.SIZES, "quick", (32, 32))
        scan_features.ScanFeatures(_scans(cohort, cohort.parent / "work"), progress=False)
    return cohort.parent / "work"


def _scans(cohort: Path, work: Path, seed: int = 0) -> Scans:
    return Scans(Study.open(cohort.parent / "study"), pd.read_csv(cohort), work, seed, "quick", "cpu")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which everything is a matter of seconds."""
    monkeypatch.setitem(scan_features.SIZES, "quick", (32, 32))
    widths, short = (8, 8, 16, 16), TrainingSchedule(30, 9, 4e-3)
    monkeypatch.setitem(
        moco.SETTINGS, "quick", replace(moco.SETTINGS["quick"], size=32, widths=widths, epochs=10, batch=8)
    )
    monkeypatch.setitem(
        models_genesis.SETTINGS, "quick", replace(models_genesis.SETTINGS["quick"], steps=24, landmarks=12)
    )
    monkeypatch.setitem(
        cnn3d.SETTINGS,
        "quick",
        replace(cnn3d.SETTINGS["quick"], size=16, widths=widths, training=TrainingSchedule(15, 9, 4e-3)),
    )
    monkeypatch.setitem(cnn2d.SETTINGS, "quick", replace(cnn2d.SETTINGS["quick"], training=short))
    monkeypatch.setitem(
        subject2vec.SETTINGS,
        "quick",
        replace(
            subject2vec.SETTINGS["quick"],
            features=16,
            patches=4,
            predicted_from=12,
            training=TrainingSchedule(30, 9, 6e-3),
        ),
    )


@pytest.fixture
def scans(cohort: Path, surveyed: Path, tiny: None) -> Scans:
    return _scans(cohort, surveyed)


Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


@pytest.fixture(scope="session")
def folds() -> Folds:
    """Two; every subject is predicted once."""
    order = np.random.default_rng(1).permutation(SUBJECTS)
    parts = [np.sort(part) for part in np.array_split(order, 2)]
    return [(np.setdiff1d(order, part), part) for part in parts]


@pytest.fixture(scope="session")
def held_out() -> Callable[[NDArray[np.float64], NDArray[np.float64], Folds], NDArray[np.float64]]:
    """Predictions of held-out subjects by a linear probe."""

    def predict(features: NDArray[np.float64], values: NDArray[np.float64], folds: Folds) -> NDArray[np.float64]:
        found = np.zeros(len(values))
        for train, test in folds:
            found[test] = fit_probe(features[train], values[train], 0).predict(features[test])
        return found

    return predict
