"""Harmonisation: neuroCombat as the witness, training folds alone, unseen sites, and confounded ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.evaluation.evaluate import evaluate
from anatograph.evaluation.harmonisation.combat import fit_combat
from anatograph.evaluation.harmonisation.site_effects import association, read_harmonisation
from anatograph.evaluation.targets import Target
from fixtures.vectors import save_cohort

Array = NDArray[np.float64]


def scans(n: int, features: int, seed: int) -> tuple[Array, NDArray[np.str_], Array]:
    """Features with a shift and a scale of each of three sites, the sites, and an age that two features follow."""
    random = np.random.default_rng(seed)
    site = random.integers(0, 3, n)
    age = random.normal(size=n) + 0.8 * site
    x = random.normal(size=(n, features))
    x[:, :2] += 1.5 * age[:, None]
    shift, scale = random.normal(0, 1.5, (3, features)), random.uniform(0.6, 1.6, (3, features))
    return x * scale[site] + shift[site] + 10, np.array(["A", "B", "C"])[site], age


@pytest.mark.parametrize("kept", [False, True])
def test_combat_is_that_of_neurocombat(kept: bool) -> None:
    """The estimates with and without a kept covariate; without one the harmonised features too."""
    witness = pytest.importorskip("neuroCombat")
    x, sites, age = scans(150, 12, 0)
    covariates = pd.DataFrame({"site": sites, "age": age})
    found = witness.neuroCombat(x.T, covariates, "site", continuous_cols=["age"] if kept else None)
    ours = fit_combat(x, sites, age[:, None] if kept else None)
    np.testing.assert_allclose(ours.gamma, found["estimates"]["gamma.star"], atol=2e-4)
    np.testing.assert_allclose(ours.delta, found["estimates"]["delta.star"], rtol=2e-4)
    if not kept:
        np.testing.assert_allclose(ours.apply(x, sites), found["data"].T, atol=2e-3)


def test_kept_effects_stay_and_others_go_with_the_site() -> None:
    """Older patients at site C: without --keep their age is taken for the site's effect."""
    x, sites, age = scans(600, 12, 1)
    plain = fit_combat(x, sites).apply(x, sites)
    kept = fit_combat(x, sites, age[:, None]).apply(x, sites)
    slopes = [np.polyfit(age, given[:, 0] - given[:, 5], 1)[0] for given in (plain, kept)]
    between = [given[sites == "C", 0].mean() - given[sites == "A", 0].mean() for given in (plain, kept)]
    assert between[0] == pytest.approx(0, abs=0.1)
    assert between[1] > 1.0  # the sites' ages differ by 1.6
    assert slopes[1] > slopes[0] + 0.2


def test_a_constant_feature_and_an_unknown_site_stay_as_they_are() -> None:
    x, sites, _ = scans(90, 4, 2)
    x[:, 3] = 7.0
    fitted = fit_combat(x, sites)
    np.testing.assert_allclose(fitted.apply(x, sites)[:, 3], 7.0)
    np.testing.assert_array_equal(fitted.apply(x[:5], np.full(5, "Z")), x[:5])
    assert fit_combat(x[:2], sites[:2]).sites == ()


def test_evaluate_harmonises_in_the_training_folds_and_compares(tmp_path: Path) -> None:
    x, sites, _ = scans(180, 10, 3)
    own = np.random.default_rng(0).normal(size=180)
    x[:, 4] += own
    embeddings, cohort = save_cohort(tmp_path, x, y=own, site=sites)
    out = tmp_path / "out"
    found = evaluate(embeddings, cohort, "y", harmonise="site", out=out)
    table = pd.read_csv(out / "harmonisation.csv").set_index("target")
    assert table.loc["y", "after"] == pytest.approx(found.headlines["value"].item())
    assert table.loc["y", "before"] == pytest.approx(evaluate(embeddings, cohort, "y").headlines["value"].item())
    assert table.loc["y", "after"] > table.loc["y", "before"] + 0.05
    assert table.loc["site (linear)", "before"] > 0.9
    assert table.loc["site (linear)", "after"] < 0.65
    assert table.loc["site (kernel)", "after"] < table.loc["site (kernel)", "before"] - 0.2
    assert any("site: A (" in note for note in found.notes)
    # Fitted on the training rows alone: test rows do not change what the others become.
    harmonisation = read_harmonisation(pd.read_csv(cohort), "site")
    rows, train = np.arange(180), np.arange(120)
    moved = x.copy()
    moved[120:] += 100
    first, second = (harmonisation(given, rows, train) for given in (x, moved))
    np.testing.assert_array_equal(first[:120], second[:120])
    assert harmonisation.unseen(rows, np.flatnonzero(sites != "B")) == ["B"]


def test_random_labels_stay_at_chance(tmp_path: Path) -> None:
    x, sites, _ = scans(150, 40, 4)
    labels = np.random.default_rng(1).integers(0, 2, 150)
    embeddings, cohort = save_cohort(tmp_path, x, y=labels, site=sites)
    found = evaluate(embeddings, cohort, "y", harmonise="site", keep=["y"])
    assert abs(found.headlines["value"].item() - 0.5) < 0.12  # keeping the target itself leaks nothing


def test_target_and_site_that_go_together_are_warned_of(tmp_path: Path) -> None:
    x, sites, _ = scans(120, 6, 5)
    random = np.random.default_rng(2)
    ill = np.where(sites == "A", random.random(120) < 0.1, random.random(120) < 0.8)
    ill[sites == "C"] = True
    embeddings, cohort = save_cohort(tmp_path, x, ill=ill.astype(int), fair=random.integers(0, 2, 120), site=sites)
    said = " ".join(evaluate(embeddings, cohort, ["ill", "fair"], harmonise="site").notes)
    assert "ill and site are associated (Cramér's V" in said
    assert "site C: a single class of ill" in said
    assert "fair and site are associated" not in said


def test_a_site_not_seen_is_said(tmp_path: Path) -> None:
    x, sites, _ = scans(100, 5, 7)
    sites[:3] = "D"
    embeddings, cohort = save_cohort(tmp_path, x, y=x[:, 0], site=sites)
    notes = evaluate(embeddings, cohort, "y", harmonise="site", leave_out="site").notes
    assert any(note.startswith("y: site D not seen (fewer than 3 training subjects") for note in notes)
    assert any(note.startswith("y: site A, B, C, D not seen with --leave-out site") for note in notes)
    x, sites, _ = scans(100, 5, 7)
    embeddings, cohort = save_cohort(tmp_path, x, y=x[:, 0], site=sites)
    assert not any("not seen" in note for note in evaluate(embeddings, cohort, "y", harmonise="site").notes)


def test_association_of_numbers_is_eta_squared() -> None:
    from scipy.stats import f_oneway

    values = np.array([1.0, 2, 3, 7, 8, 9, 4, 5, 6])
    sites = np.repeat(["A", "B", "C"], 3)
    name, value, p = association(Target("y", "regression", np.arange(9), values), sites)
    assert (name, value) == ("η²", pytest.approx(54 / 60))
    assert p == pytest.approx(f_oneway(*values.reshape(3, 3)).pvalue)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"harmonise": "sight"}, "has no column 'sight'"),
        ({"harmonise": "empty"}, "'empty' is empty for 1 subjects .s0003"),
        ({"harmonise": "each"}, "has 60 different values among 60"),
        ({"harmonise": "site", "keep": ["site"]}, "leave it out of --keep"),
        ({"harmonise": "site", "keep": ["twin"]}, "cannot be separated from the sites"),
        ({"keep": ["y"]}, "--keep belongs to --harmonise"),
        ({"harmonise": "site", "save_probe": "probe"}, "--save-probe cannot be combined"),
    ],
)
def test_bad_requests_get_a_sentence(tmp_path: Path, options: dict[str, object], said: str) -> None:
    x, sites, _ = scans(60, 3, 6)
    empty = ["A"] * 30 + ["B"] * 30
    empty[3] = ""
    columns = {"site": sites, "twin": sites, "empty": empty, "each": [f"e{i}" for i in range(60)]}
    embeddings, cohort = save_cohort(tmp_path, x, y=x[:, 0], **columns)
    with pytest.raises(UserError, match=said):
        evaluate(embeddings, cohort, "y", **options)  # type: ignore[arg-type]
