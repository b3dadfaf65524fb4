"""The confounding audit: what the embedding encodes, linearly and not, and which targets share its direction."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.kernel_ridge import KernelRidge
from sklearn.preprocessing import KernelCenterer

from anatograph import cli
from anatograph.errors import UserError
from anatograph.evaluation.audit import columns
from anatograph.evaluation.audit.api import audit
from anatograph.evaluation.audit.columns import kind_of
from anatograph.evaluation.audit.directions import correlation
from anatograph.evaluation.probes.kernel import kernel_ridge
from anatograph.evaluation.probes.ridge import RIDGE_STRENGTHS
from fixtures.vectors import save_cohort


def made(folder: Path, n: int = 200) -> tuple[Path, Path]:
    """Age is linear in feature 0, the kernel is the sign of a product of features, the dose is nowhere.

    ``like_age`` follows the same feature as age, ``own`` another.
    """
    random = np.random.default_rng(0)
    x = random.normal(size=(n, 8))
    return save_cohort(
        folder,
        x,
        age=60 + 8 * x[:, 0] + random.normal(0, 2, n),
        kernel=np.where(x[:, 1] * x[:, 2] > 0, "sharp", "soft"),
        ctdivol=random.normal(5, 1, n),
        like_age=x[:, 0] + random.normal(0, 0.3, n),
        own=x[:, 3] + random.normal(0, 0.3, n),
    )


def test_audit_finds_what_is_there_and_not_what_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embeddings, cohort = made(tmp_path)
    out = tmp_path / "out"
    words = ["audit", str(embeddings), str(cohort), "--target", "like_age", "own", "--out", str(out)]
    assert cli.main(words) == 0
    assert "Targets and what they share" in capsys.readouterr().out
    table = pd.read_csv(out / "audit.csv").set_index("nuisance")
    assert list(table.index) == ["age", "kernel", "dose"]
    assert list(table["column"]) == ["age", "kernel", "ctdivol"]
    assert table.loc["age", "linear"] > 0.85
    assert table.loc["kernel", "linear_low"] < 0.5  # not linearly …
    assert table.loc["kernel", "kernel_low"] > 0.6  # … but it is there
    assert list(table["known"]) == [True, True, False]
    shared = pd.read_csv(out / "audit_shared.csv").set_index(["target", "nuisance"])
    assert shared.loc[("like_age", "age"), "directions"] > 0.9
    assert shared.loc[("like_age", "age"), "labels"] == pytest.approx(
        abs(np.corrcoef(*pd.read_csv(cohort)[["age", "like_age"]].to_numpy().T)[0, 1])
    )
    assert shared.loc[("own", "age"), "directions"] < 0.3
    assert np.isnan(shared.loc[("own", "dose"), "directions"])  # a direction of nothing
    assert shared.loc[("like_age", "age"), "value_without"] < 0.1
    assert shared.loc[("own", "age"), "value_without"] > 0.8
    with Image.open(out / "audit.png") as picture:
        assert picture.width > 600
    account = json.loads((out / "audit.run.json").read_text(encoding="utf-8"))
    assert account["results"]["audit"][0]["column"] == "age"


def test_columns_are_known_by_name() -> None:
    known = {"Age": "age", "gender": "sex", "centre": "site", "slice_mm": "slice thickness", "noise_hu": "dose",
             "ConvolutionKernel": "kernel", "lung_volume_l": "breath", "lungs_volume_ml": "breath",
             "manufacturer": "scanner", "package": None, "stage": None, "bmi": None, "site_visit": None}  # fmt: skip
    assert {name: kind_of(name) for name in known} == known


def test_lung_volume_comes_from_the_studys_quality_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quality.csv").write_text("subject_id,lungs_volume_ml,scan_coarsest_mm\ns1,5000,1.5\ns0,4000,\n")
    monkeypatch.setattr(columns, "study_of", lambda _: SimpleNamespace(path=tmp_path))
    table = pd.DataFrame({"subject_id": ["s0", "s1", "s2"], "age": [1.0, 2.0, 3.0], "slice_mm": [1, 1, 2]})
    found, kinds = columns.nuisances(table, tmp_path / "emb.parquet", [])
    assert kinds == {"age": "age", "slice_mm": "slice thickness", "lungs_volume_ml": "breath"}
    np.testing.assert_array_equal(found["lungs_volume_ml"], [4000, 5000, np.nan])


def test_kernel_ridge_is_scikit_learns() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(80, 4))
    y = np.sin(2 * x[:, 0]) + x[:, 1] ** 2 + random.normal(0, 0.05, 80)
    found = kernel_ridge(x[:60], y[:60, None], x[60:])[:, 0]
    z = (x - x[:60].mean(axis=0)) / x[:60].std(axis=0)
    squared = ((z[:, None] - z[None, :60]) ** 2).sum(axis=2)
    kernel = np.exp(-squared / np.median(squared[:60][np.triu_indices(60, 1)]))
    centre = KernelCenterer().fit(kernel[:60])
    inside, outside, middle = centre.transform(kernel[:60]), centre.transform(kernel[60:]), y[:60].mean()
    witnesses = [
        KernelRidge(kernel="precomputed", alpha=alpha).fit(inside, y[:60] - middle).predict(outside) + middle
        for alpha in 60 * RIDGE_STRENGTHS
    ]
    assert min(np.abs(witness - found).max() for witness in witnesses) < 1e-4
    assert np.corrcoef(found, y[60:])[0, 1] > 0.8


def test_canonical_correlation_of_single_columns_is_the_plain_one() -> None:
    random = np.random.default_rng(2)
    a, b = random.normal(size=(50, 1)), random.normal(size=(50, 1))
    assert correlation(a, b) == pytest.approx(abs(np.corrcoef(a[:, 0], b[:, 0])[0, 1]))
    assert correlation(a, np.hstack([b, 3 * a])) == pytest.approx(1)
    assert np.isnan(correlation(a, np.ones((50, 1))))


def test_bad_requests_get_a_sentence(tmp_path: Path) -> None:
    embeddings, cohort = made(tmp_path, 40)
    with pytest.raises(UserError, match="--column: the cohort has no column 'weight'"):
        audit(embeddings, cohort, tmp_path / "out", columns=["weight"])
    plain = pd.read_csv(cohort).drop(columns=["age", "kernel", "ctdivol"])
    plain.to_csv(tmp_path / "plain.csv", index=False)
    with pytest.raises(UserError, match="no column with a known name for age, sex, site"):
        audit(embeddings, tmp_path / "plain.csv", tmp_path / "out")
    found = audit(embeddings, tmp_path / "plain.csv", tmp_path / "out", columns=["own"])
    assert found.table["nuisance"].item() == "own"
