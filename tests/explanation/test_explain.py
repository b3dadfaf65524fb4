"""Maps of contributions: the place, the grid, the scale, how far they are trusted, and what the files say."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from anatograph import cli
from anatograph.errors import UserError
from anatograph.evaluation.evaluate import evaluate
from anatograph.evaluation.saved.predict import predict
from anatograph.explanation.explain import explain
from anatograph.explanation.explainer import Explainer
from fixtures.small import Small


def test_an_unknown_probe_is_refused(small: Small, embedded: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="evaluate, smooth"):
        explain(small.study, embedded, small.cohort, "density", "p02", tmp_path, probe="loud")  # type: ignore[arg-type]


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


def test_what_the_header_says(small: Small, embedded: Path, tmp_path: Path) -> None:
    """Read by ITK; and gzip's own header carries neither a name nor a time."""
    (path,) = explain(small.study, embedded, small.cohort, "sick", "p11", tmp_path, class_name="sick").maps
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    header = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    assert header["descrip"] == "contribution relative to the training subjects: above 0.5 for sick = sick"
    assert header["intent_name"] == "probe map"
    assert header["intent_code"] == "1001"
    assert (float(header["cal_min"]), float(header["cal_max"])) == (0, 1)
    assert (float(header["scl_slope"]), float(header["scl_inter"])) == (1, 0)
    assert header["aux_file"] == ""
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
    table = small.table()
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
    assert drawn["evidence"].endswith("; not better than chance")
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
    small.table()[["subject_id", "image", "lungs"]].to_csv(tmp_path / "unlabelled.csv", index=False)
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


def test_a_scan_outside_the_range_of_those_fitted_on_is_named(
    small: Small, embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
