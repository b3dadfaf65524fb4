"""Contributions of regions: the sum, the reference, and the folds that the probe was fitted on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from anatograph.choices import ProbeKind, Task
from anatograph.embedding.regions import Regions
from anatograph.errors import UserError
from anatograph.evaluation.alignment import align, group_numbers
from anatograph.evaluation.evaluate import evaluate
from anatograph.evaluation.targets import read_target
from anatograph.explanation.contribution import Contribution
from anatograph.explanation.explain import explain
from anatograph.explanation.explainer import Explainer
from fixtures.small import Small


def explainer(
    small: Small,
    embedded: Path,
    target: str,
    labels: object = None,
    patients: object = None,
    task: Task | None = None,
    probe: ProbeKind = "evaluate",
) -> Explainer:
    """With a column of the cohort replaced by ``labels``, and ``patients`` as groups."""
    data = align(embedded, small.cohort)
    if labels is not None:
        data.table[target] = labels
    regions = Regions(embedded.with_name("emb.regions.zarr"))
    groups = None if patients is None else np.asarray(patients)
    return Explainer(data, read_target(data.table, target, task), regions, groups, probe=probe)


def exact(found: Contribution, regions: Regions) -> tuple[float, float]:
    """The probe's answer from the mean of the regions, and from the mean of their contributions, both in float64."""
    nodes = regions.of(found.subject_id).astype(np.float64)
    subject = nodes[np.isfinite(nodes).all(axis=1)].mean(axis=0)
    return float(found.direction.weights @ subject + found.direction.intercept), found.answer


@pytest.mark.parametrize("target", ["sick", "density", "grade"])
def test_contributions_sum_to_the_answer_in_the_table_of_predictions(
    small: Small, embedded: Path, tmp_path: Path, target: str
) -> None:
    """Eq. 10: β + the mean of M_j is the log-odds, exactly; and it is the probe of `evaluate` that did not see them."""
    labels = (np.arange(12) // 4).astype(str) if target == "grade" else None
    cohort = tmp_path / "cohort.csv"
    table = small.table()
    if labels is not None:
        table[target] = [f"g{k}" for k in labels]
    table.to_csv(cohort, index=False)
    folds = 4 if target == "grade" else 5
    predictions = evaluate(embedded, cohort, target, folds).predictions.set_index("subject_id")
    data = align(embedded, cohort)
    regions = Regions(embedded.with_name("emb.regions.zarr"))
    made = Explainer(data, read_target(data.table, target), regions, folds=folds, probe="evaluate")
    for name in ("p02", "p07", "p11"):
        if target == "grade":
            chances = predictions.loc[name, [f"probability_g{k}" for k in range(3)]].to_numpy(float)
            answers = []
            for k in range(3):
                found = made.contribution(name, f"g{k}")
                from_mean, from_sum = exact(found, regions)
                assert from_sum == pytest.approx(from_mean, abs=1e-10)
                answers.append(found.answer)
            # The answer sets a logit against the mean of the other two, so it is 1.5 times the logit less the mean.
            logits = np.array(answers) / 1.5
            np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), chances, atol=1e-4)
            assert made.contribution(name).direction.class_name == f"g{int(chances.argmax())}"
            continue
        found = made.contribution(name)
        from_mean, from_sum = exact(found, regions)
        assert from_sum == pytest.approx(from_mean, abs=1e-10)
        if target == "density":
            expected = found.direction.offset + found.direction.scale * found.answer
            assert predictions.loc[name, "prediction"] == pytest.approx(expected, abs=1e-4)
            continue
        # "well" is the last of two classes.
        assert predictions.loc[name, "probability_well"] == pytest.approx(expit(found.answer), abs=1e-4)
        other = made.contribution(name, "sick")
        np.testing.assert_allclose(other.raw, -found.raw)
        np.testing.assert_allclose(other.values(), 1 - found.values(), atol=1e-12)


def test_steps_of_a_score_share_one_direction(small: Small, embedded: Path, tmp_path: Path) -> None:
    """Eq. 10 for a score: β_k + the mean of M_j is the log-odds of step k or more, with the same M_j for each k."""
    grades = np.arange(12) // 4
    made = explainer(small, embedded, "grade", grades, task="ordinal")
    for name in ("p02", "p07"):
        low, middle, high = (made.contribution(name, step) for step in "012")
        chance = made.fitted_for(name).probe.probabilities(
            np.nanmean(made.regions.of(name).astype(np.float64), axis=0)[None]
        )[0]
        for found, expected in ((low, chance[0]), (middle, chance[1:].sum()), (high, chance[2])):
            from_mean, from_sum = exact(found, made.regions)
            assert from_sum == pytest.approx(from_mean, abs=1e-9)
            assert expit(found.answer) == pytest.approx(expected, abs=1e-9)
        np.testing.assert_array_equal(middle.raw, high.raw)
        np.testing.assert_array_equal(low.raw, -high.raw)
        assert middle.answer > high.answer
        assert high.direction.meaning == "grade of 2 or more"
        assert made.contribution(name).direction.class_name == str(max(1, int(chance.argmax())))

    table = small.table()
    table["grade"] = grades
    table.to_csv(tmp_path / "cohort.csv", index=False)
    arguments = (small.study, embedded, tmp_path / "cohort.csv", "grade", "p11", tmp_path / "maps")
    done = explain(*arguments, task="ordinal", every_class=True, folds=4)
    assert [p.name for p in done.maps] == ["p11_grade.nii.gz"]  # one map serves all steps
    record = json.loads((tmp_path / "maps" / "p11_grade.json").read_text(encoding="utf-8"))
    assert record["high"].startswith("evidence for grade of ")
    assert record["score"]["probability"] == pytest.approx(expit(record["score"]["answer"]))


@pytest.mark.parametrize("target", ["sick", "density"])
def test_contributions_of_the_smooth_probe_sum_to_its_answer(small: Small, embedded: Path, target: str) -> None:
    made = explainer(small, embedded, target, probe="smooth")
    for name in ("p02", "p07", "p11"):
        from_mean, from_sum = exact(made.contribution(name), made.regions)
        assert from_sum == pytest.approx(from_mean, abs=1e-9)
    plain = explainer(small, embedded, target).contribution("p07").direction.weights
    assert not np.allclose(plain, made.contribution("p07").direction.weights)


def test_relative_contributions_sum_to_the_difference_from_the_reference(small: Small, embedded: Path) -> None:
    made = explainer(small, embedded, "density")
    found = made.contribution("p07")
    assert found.relative.mean() == pytest.approx(found.answer - found.reference_answer, abs=1e-10)
    regions = made.regions
    fitted = made.fitted_for("p07").target.rows
    assert made.subject_ids.index("p07") not in fitted
    raw = np.array([found.direction.of(regions.of(made.subject_ids[row])) for row in fitted])
    np.testing.assert_allclose(found.reference.median, np.median(raw, axis=0))
    # 0.9 and 0.1 are what one of twenty regions of the subjects fitted on goes beyond.
    values = expit(np.log(9) * (raw - found.reference.median) / found.reference.spread)
    assert np.mean((values > 0.9) | (values < 0.1)) == pytest.approx(0.05, abs=0.5 / raw.size + 1e-3)
    np.testing.assert_allclose(found.values("eq10"), expit(found.raw + found.direction.intercept))
    with pytest.raises(UserError, match="relative or eq10"):
        found.values("loud")


def test_a_subject_and_its_group_are_not_fitted_on(small: Small, embedded: Path) -> None:
    """Another label for the subject, or for its group, changes nothing."""
    patients = np.arange(12) // 2
    labels = np.linspace(0, 1, 12)
    first = explainer(small, embedded, "density", labels, patients).contribution("p06").raw
    changed = labels.copy()
    changed[[6, 7]] = 40.0, -30.0
    second = explainer(small, embedded, "density", changed, patients).contribution("p06").raw
    np.testing.assert_array_equal(first, second)
    third = explainer(small, embedded, "density", labels).contribution("p06").raw
    assert not np.allclose(first, third)
    # A subject without a value is explained by all others, and still not by the rest of the group.
    missing = labels.copy()
    missing[6] = np.nan
    made = explainer(small, embedded, "density", missing, patients)
    assert made.fitted_for("p06").target.rows.tolist() == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]
    table = pd.DataFrame({"subject_id": made.subject_ids, "person": [f"q{g}" for g in patients]})
    np.testing.assert_array_equal(group_numbers(table, "person"), patients)


def test_a_scan_far_from_those_fitted_on_has_the_lowest_range_p(
    small: Small, embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = explainer(small, embedded, "density")
    usual, far, of = made.range_p("p07"), made.regions.of("p07") + 50, Regions.of
    lowest = 1 / (1 + len(made.fitted_for("p07").target.rows))
    monkeypatch.setattr(Regions, "of", lambda regions, name: far if name == "p07" else of(regions, name))
    assert explainer(small, embedded, "density").range_p("p07") == pytest.approx(lowest)
    assert usual > lowest
