"""Explanations: the sum, the sign, the place, the folds, the grid, the scale, and what the files say."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from scipy.special import expit

from anatograph import cli
from anatograph.choices import ProbeKind, Task
from anatograph.embedding.api import embed
from anatograph.embedding.regions import Regions
from anatograph.errors import UserError
from anatograph.evaluation.alignment import align, group_numbers
from anatograph.evaluation.evaluate import evaluate
from anatograph.evaluation.saved.predict import predict
from anatograph.evaluation.targets import read_target
from anatograph.explanation.contribution import Contribution, Explainer
from anatograph.explanation.explain import explain
from anatograph.explanation.painting import paint
from anatograph.imaging.volume import Frame
from fixtures.small import Small


@pytest.fixture(scope="module")
def embedded(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded")
    embed(small.study, folder / "emb", model=small.model)
    return folder / "emb.parquet"


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
    table = pd.read_csv(small.cohort, dtype={"subject_id": str})
    if labels is not None:
        table[target] = [f"g{k}" for k in labels]
    for column in ("image", "lungs"):
        table[column] = [str(small.folder / name) for name in table[column]]
    table.to_csv(cohort, index=False)
    folds = 4 if target == "grade" else 5
    told = evaluate(embedded, cohort, target, folds).predictions.set_index("subject_id")
    data = align(embedded, cohort)
    regions = Regions(embedded.with_name("emb.regions.zarr"))
    made = Explainer(data, read_target(data.table, target), regions, folds=folds, probe="evaluate")
    for name in ("p02", "p07", "p11"):
        if target == "grade":
            chances = told.loc[name, [f"probability_g{k}" for k in range(3)]].to_numpy(float)
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
            assert told.loc[name, "prediction"] == pytest.approx(expected, abs=1e-4)
            continue
        # "well" is the last of two classes.
        assert told.loc[name, "probability_well"] == pytest.approx(expit(found.answer), abs=1e-4)
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

    table = pd.read_csv(small.cohort, dtype={"subject_id": str})
    table["grade"] = grades
    for column in ("image", "lungs"):
        table[column] = [str(small.folder / name) for name in table[column]]
    table.to_csv(tmp_path / "cohort.csv", index=False)
    arguments = (small.study, embedded, tmp_path / "cohort.csv", "grade", "p11", tmp_path / "maps")
    done = explain(*arguments, task="ordinal", every_class=True, folds=4)
    assert [p.name for p in done.maps] == ["p11_grade.nii.gz"]  # one map serves all steps
    told = json.loads((tmp_path / "maps" / "p11_grade.json").read_text(encoding="utf-8"))
    assert told["high"].startswith("evidence for grade of ")
    assert told["score"]["probability"] == pytest.approx(expit(told["score"]["answer"]))


def test_a_probe_that_is_none_is_refused(small: Small, embedded: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="evaluate, smooth"):
        explain(small.study, embedded, small.cohort, "density", "p02", tmp_path, probe="loud")  # type: ignore[arg-type]


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


@pytest.mark.parametrize("number", [10, 11])
def test_more_disease_is_warmer_and_where_it_is(small: Small, embedded: Path, tmp_path: Path, number: int) -> None:
    """The right lung is dense in proportion to the target: it is warm in the sick and cool in the well."""
    done = explain(small.study, embedded, small.cohort, "density", [f"p{number}", "p00"], tmp_path)
    assert done.account.exit_status == 0
    means = {}
    for path, name in zip(done.maps, (number, 0), strict=True):
        heat = sitk.ReadImage(str(path))
        scan = sitk.ReadImage(str(small.folder / f"{name}.nii.gz"))
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(small.folder / f"{name}_lungs.nii.gz")))
        # The grid of the scan's own file, one of them stored as RAS.
        assert heat.GetSize() == scan.GetSize()
        np.testing.assert_allclose(heat.GetOrigin(), scan.GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(heat.GetDirection(), scan.GetDirection(), atol=1e-6)
        np.testing.assert_allclose(heat.GetSpacing(), scan.GetSpacing(), atol=1e-5)
        values = sitk.GetArrayFromImage(heat)
        assert values.dtype == np.float32
        assert (values[mask == 0] == 0).all()
        assert (values > 0).sum() > 0.05 * (mask > 0).sum()
        assert values.max() < 1
        means[name] = [values[(mask == side) & (values > 0)].mean() for side in (1, 2)]
        about = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8"))
        assert about["kind"] == "probe"
        assert about["high"].startswith("evidence for higher density")
        assert path.with_name(about["picture"]).stat().st_size > 20_000
        table = pd.read_csv(path.with_name(about["table"]))
        assert about["score"]["intercept"] + table["contribution"].mean() == pytest.approx(about["score"]["answer"])
        top = about["strongest"][0]
        assert table.loc[top["landmark"], "place"] == top["place"]
        assert top["value"] == pytest.approx(table["value"].max(), abs=1e-4)
        if name:
            assert top["place"].startswith("right")
    assert means[number][0] > 0.5 > means[0][0]
    assert means[number][0] > means[number][1]


def test_every_class_has_a_map(small: Small, embedded: Path, tmp_path: Path) -> None:
    done = explain(small.study, embedded, small.cohort, "sick", "p11", tmp_path, every_class=True, scale="eq10")
    assert [p.name for p in done.maps] == ["p11_sick.nii.gz", "p11_sick_sick.nii.gz", "p11_sick_well.nii.gz"]
    default, sick, well = (sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in done.maps)
    np.testing.assert_array_equal(default, well)
    inside = well > 0
    np.testing.assert_allclose(sick[inside], 1 - well[inside], atol=1e-5)


def test_painting() -> None:
    frame = Frame((20, 24, 28), (2.0, 2.0, 2.0), (-10.0, 5.0, 100.0))
    lungs = np.ones(frame.shape, dtype=bool)
    lungs[:, :, :3] = False
    centres = frame.to_lps([(8, 10, 8), (12, 10, 8), (29, 10, 8), (5, 5, 5)])
    heat = paint(np.array([0.8, 0.2, 0.9, np.nan]), centres, 10.0, lungs, frame)
    assert heat[8, 10, 7] == pytest.approx(0.8, abs=1e-3)
    assert heat[8, 10, 10] == pytest.approx(0.5, abs=1e-3)  # halfway between both
    assert heat[8, 10, 13] == pytest.approx(0.2, abs=1e-3)
    assert heat[8, 10, 20] == 0  # no patch reaches here
    assert heat[5, 5, 5] == 0  # the landmark that is absent
    assert (heat[:, :, :3] == 0).all()
    # A patch has the size it says: 10 mm are the voxels within 5 mm of its middle.
    line = heat[8, 10, :]
    assert np.flatnonzero(line).tolist() == [6, 7, 8, 9, 10, 11, 12, 13, 14, 27]
    assert heat[8, 10, 27] == pytest.approx(0.9, abs=1e-3)  # reached from a landmark outside the scan
    same = paint(np.full(4, 0.3), centres, 10.0, lungs, frame)
    np.testing.assert_allclose(same[same > 0], 0.3, rtol=1e-6)


def test_what_the_header_says(small: Small, embedded: Path, tmp_path: Path) -> None:
    """Read by ITK; and gzip's own header carries neither a name nor a time."""
    (path,) = explain(small.study, embedded, small.cohort, "sick", "p11", tmp_path, class_name="sick").maps
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    told = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    assert told["descrip"] == "contribution relative to the training subjects: above 0.5 for sick = sick"
    assert told["intent_name"] == "probe map"
    assert told["intent_code"] == "1001"
    assert (float(told["cal_min"]), float(told["cal_max"])) == (0, 1)
    assert (float(told["scl_slope"]), float(told["scl_inter"])) == (1, 0)
    assert told["aux_file"] == ""
    packed = path.read_bytes()
    assert packed[3] == 0  # no name
    assert packed[4:8] == bytes(4)  # no time
    assert gzip.decompress(packed)[344:348] == b"n+1\0"


def test_from_the_command_line_and_what_is_refused(
    small: Small, embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [str(small.study), str(embedded), str(small.cohort)]
    line = ["explain", *places, "--target", "sick", "--subject", "p11", "nobody", "--out", str(tmp_path / "out")]
    assert cli.main([*line, "--class", "sick"]) == 1
    assert "nobody" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "explain.run.json",
        "p11_sick.json",
        "p11_sick.nii.gz",
        "p11_sick.png",
        "p11_sick.regions.csv",
    ]
    table = pd.read_csv(tmp_path / "out" / "p11_sick.regions.csv")
    assert len(table) == len(small.atlas)
    assert table["relative"].mean() > 0
    with pytest.raises(UserError, match="no class 'dead'"):
        explain(small.study, embedded, small.cohort, "sick", "p11", tmp_path / "none", class_name="dead")
    with pytest.raises(UserError, match="is a number and has no class"):
        explain(small.study, embedded, small.cohort, "density", "p11", tmp_path / "none", class_name="dead")
    with pytest.raises(UserError, match="no subject 'nobody'"):
        explain(small.study, embedded, small.cohort, "sick", "nobody", tmp_path / "none")
    with pytest.raises(UserError, match=r"no .*regions\.zarr"):
        explain(small.study, tmp_path / "absent", small.cohort, "sick", "p11", tmp_path / "none")
    with pytest.raises(UserError, match="relative, eq10"):
        explain(small.study, embedded, small.cohort, "sick", "p11", tmp_path / "none", scale="loud")
    assert not (tmp_path / "none").exists()


def test_a_probe_no_better_than_chance_gives_a_grey_map_that_says_so(
    small: Small, embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(small.cohort, dtype={"subject_id": str})
    for column in ("image", "lungs"):
        table[column] = [str(small.folder / name) for name in table[column]]
    table["noise"] = np.random.default_rng(3).permutation(12).astype(float)
    table.to_csv(tmp_path / "cohort.csv", index=False)
    line = ["explain", str(small.study), str(embedded), str(tmp_path / "cohort.csv"), "--target", "noise", "--subject",
            "p07"]  # fmt: skip
    assert cli.main([*line, "--out", str(tmp_path / "grey")]) == 0
    assert "does not predict noise better than chance" in capsys.readouterr().err
    about = json.loads((tmp_path / "grey" / "p07_noise.json").read_text(encoding="utf-8"))
    assert about["withheld"] == "this probe does not predict noise better than chance"
    assert about["evidence"].startswith("probe: held-out R² ")
    assert "n = 12" in about["evidence"]
    assert about["score"]["held_out"]["better_than_chance"] is False
    assert about["strongest"] == []
    heat = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "grey" / "p07_noise.nii.gz")))
    assert set(np.unique(heat).tolist()) == {0.0, 0.5}
    assert cli.main([*line, "--out", str(tmp_path / "drawn"), "--even-if-useless"]) == 0
    drawn = json.loads((tmp_path / "drawn" / "p07_noise.json").read_text(encoding="utf-8"))
    assert drawn["withheld"] is None
    assert drawn["evidence"] == about["evidence"]
    heat = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "drawn" / "p07_noise.nii.gz")))
    assert len(np.unique(heat)) > 20
    # Where the probe is good the score stands on the map too.
    good = explain(small.study, embedded, small.cohort, "density", "p11", tmp_path / "good")
    assert good.held_out is not None
    assert good.held_out.better_than_chance
    assert "R²" in json.loads((tmp_path / "good" / "p11_density.json").read_text(encoding="utf-8"))["evidence"]


def test_a_saved_probe_is_explained(small: Small, embedded: Path, tmp_path: Path) -> None:
    """Exactly: the mean contribution is the saved probe's own prediction; and no label is needed."""
    evaluate(embedded, small.cohort, ["density", "sick"], save_probe=tmp_path / "probe")
    table = pd.read_csv(small.cohort, dtype={"subject_id": str})[["subject_id", "image", "lungs"]]
    for column in ("image", "lungs"):
        table[column] = [str(small.folder / name) for name in table[column]]
    table.to_csv(tmp_path / "unlabelled.csv", index=False)
    arguments = small.study, embedded, tmp_path / "unlabelled.csv"
    done = explain(*arguments, "density", "p07", tmp_path / "maps", saved_probe=tmp_path / "probe")
    predicted = predict(tmp_path / "probe", embedded, tmp_path / "predicted.csv").table
    row = predicted[(predicted["subject_id"] == "p07") & (predicted["target"] == "density")].iloc[0]
    said = json.loads((tmp_path / "maps" / "p07_density.json").read_text(encoding="utf-8"))["score"]
    assert said["predicted"] == pytest.approx(row["prediction"], abs=1e-4)
    assert said["range_p"] == pytest.approx(row["range_p"])
    assert done.contributions[0].reference.subjects == 11
    with pytest.raises(UserError, match="no probe of 'age' that can be explained; it has: density, sick"):
        explain(*arguments, "age", "p07", tmp_path / "no", saved_probe=tmp_path / "probe")


def test_a_scan_outside_the_range_of_those_fitted_on_is_said(
    small: Small, embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = explainer(small, embedded, "density")
    usual, far, of = made.range_p("p07"), made.regions.of("p07") + 50, Regions.of
    lowest = 1 / (1 + len(made.fitted_for("p07").target.rows))
    monkeypatch.setattr(Regions, "of", lambda regions, name: far if name == "p07" else of(regions, name))
    assert explainer(small, embedded, "density").range_p("p07") == pytest.approx(lowest)
    assert usual > lowest
    monkeypatch.setattr(Regions, "of", of)
    monkeypatch.setattr(Explainer, "range_p", lambda self, name: 0.01 if name == "p07" else 0.6)
    done = explain(small.study, embedded, small.cohort, "density", ["p07", "p02"], tmp_path)
    scores = {
        name: json.loads((tmp_path / f"{name}_density.json").read_text(encoding="utf-8"))["score"]
        for name in ("p07", "p02")
    }
    assert scores["p07"]["outside_range"]
    assert not scores["p02"]["outside_range"]
    note = "1 of 2 scans lies outside the range of the scans that the probe was fitted on (p07)"
    assert any(note in said for said in done.account.notes)
