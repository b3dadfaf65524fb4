"""Explanations: the sign, the sum, the place, and the grid they are written on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from small_places import Small

from anatograph import cli
from anatograph.analysis.embed import embed
from anatograph.analysis.explain import activation, explain
from anatograph.analysis.heatmap import paint
from anatograph.analysis.linear import fit_probe
from anatograph.analysis.probe import align, group_numbers
from anatograph.analysis.region_store import Regions
from anatograph.analysis.targets import read_target
from anatograph.errors import UserError
from anatograph.imaging.volume import Frame


@pytest.fixture(scope="module")
def embedded(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded")
    embed(small.study, folder / "emb", model=small.model)
    return folder / "emb.parquet"


def test_mean_over_the_regions_is_what_the_probe_says(small: Small, embedded: Path) -> None:
    """Eq. 10: the log-odds are β + the mean of W h'_j, to the float32 rounding of the features."""
    data = align(embedded, small.cohort)
    regions = Regions(embedded.with_name("emb.regions.zarr"))
    row = data.table["subject_id"].tolist().index("p07")
    others = np.arange(12) != row
    sick = read_target(data.table, "sick")
    found = activation(data, sick, "p07", regions.of("p07"))
    probe = fit_probe(data.features[others], sick.values[others], 2)
    assert np.nanmean(found.raw) == pytest.approx(probe.scores(data.features[[row]])[0, 0], abs=1e-4)
    opposite = activation(data, sick, "p07", regions.of("p07"), class_name="sick")
    np.testing.assert_allclose(opposite.raw, -found.raw)  # "well" is the second class
    np.testing.assert_allclose(opposite.values, 1 - found.values, atol=1e-12)
    density = read_target(data.table, "density")
    found = activation(data, density, "p07", regions.of("p07"))
    probe = fit_probe(data.features[others], density.values[others], 0)
    expected = (probe.predict(data.features[[row]])[0] - density.values[others].mean()) / density.values[others].std()
    assert np.nanmean(found.raw) == pytest.approx(expected, abs=1e-4)


def test_classes_of_three_sum_to_the_log_odds_against_the_rest(small: Small, embedded: Path) -> None:
    data = align(embedded, small.cohort)
    data.table["grade"] = np.arange(12) // 4
    grade = read_target(data.table, "grade")
    nodes = Regions(embedded.with_name("emb.regions.zarr")).of("p10")
    found = activation(data, grade, "p10", nodes)
    others = np.arange(12) != data.table["subject_id"].tolist().index("p10")
    scores = fit_probe(data.features[others], grade.values[others], 3).scores(data.features[~others])[0]
    best = int(scores.argmax())
    assert f"grade = {best}" in found.meaning
    assert np.nanmean(found.raw) == pytest.approx(scores[best] - np.delete(scores, best).mean(), abs=1e-4)


def test_a_subject_and_its_group_are_not_fitted_on(small: Small, embedded: Path) -> None:
    """Another label for the subject, or for its group, changes nothing."""
    data = align(embedded, small.cohort)
    nodes = Regions(embedded.with_name("emb.regions.zarr")).of("p06")
    groups = np.arange(12) // 2
    first = activation(data, read_target(data.table, "density"), "p06", nodes, groups)
    data.table.loc[data.table["subject_id"].isin(["p06", "p07"]), "density"] = [40.0, -30.0]
    second = activation(data, read_target(data.table, "density"), "p06", nodes, groups)
    np.testing.assert_array_equal(first.raw, second.raw)
    alone = activation(data, read_target(data.table, "density"), "p06", nodes)
    assert not np.allclose(first.raw, alone.raw)
    data.table["person"] = [f"q{g}" for g in groups]
    np.testing.assert_array_equal(group_numbers(data.table, "person"), groups)


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
        for ending in (".png", ".csv"):
            assert path.with_name(path.name.replace(".nii.gz", ending)).stat().st_size > 500
    assert means[number][0] > 0.5 > means[0][0]
    assert means[number][0] > means[number][1]


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


def test_from_the_command_line_and_what_is_refused(
    small: Small, embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [str(small.study), str(embedded), str(small.cohort)]
    line = ["explain", *places, "--target", "sick", "--subject", "p11", "nobody", "--out", str(tmp_path / "out")]
    assert cli.main([*line, "--class", "sick"]) == 1
    assert "nobody" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "explain.run.json",
        "p11_sick.csv",
        "p11_sick.nii.gz",
        "p11_sick.png",
    ]
    table = pd.read_csv(tmp_path / "out" / "p11_sick.csv")
    assert len(table) == len(small.atlas)
    assert table["activation"].mean() > 0
    with pytest.raises(UserError, match="no class 'dead'"):
        explain(small.study, embedded, small.cohort, "sick", "p11", tmp_path / "none", class_name="dead")
    with pytest.raises(UserError, match="no subject 'nobody'"):
        explain(small.study, embedded, small.cohort, "sick", "nobody", tmp_path / "none")
    with pytest.raises(UserError, match=r"no .*regions\.zarr"):
        explain(small.study, tmp_path / "absent", small.cohort, "sick", "p11", tmp_path / "none")
    assert not (tmp_path / "none").exists()
