"""The one pass over the scans, and the rows that need nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from small_cohort import HOLE, SUBJECTS, TISSUE, scan_and_mask, write_image

from anatograph.baselines.features.cubes import lung_box
from anatograph.baselines.features.density_figures import FIGURES
from anatograph.baselines.features.scan_features import ScanFeatures
from anatograph.baselines.features.supervoxels import FEATURES, describe_regions
from anatograph.baselines.method import Scans
from anatograph.baselines.methods.densitometry import Densitometry
from anatograph.baselines.methods.divergence import DivergenceEmbedding
from anatograph.baselines.methods.kmeans import BagOfWords, Codebook
from anatograph.baselines.methods.laa950 import LAA950
from anatograph.errors import UserError
from anatograph.imaging.reading import read_mask, read_volume
from anatograph.imaging.volume import Frame, Mask
from anatograph.study.store import Study

Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
Probe = Callable[[NDArray[np.float64], NDArray[np.float64], Folds], NDArray[np.float64]]
CHANCE = 0.68
"""Correlation that 18 unrelated pairs exceed once in a thousand."""


def test_laa_950_is_the_share_in_the_scans_own_voxels(scans: Scans, cohort: Path) -> None:
    found = LAA950(progress=False).embed(scans)
    assert found.shape == (SUBJECTS, 1)
    for row in (0, 5, SUBJECTS - 1):
        hu = sitk.GetArrayFromImage(sitk.ReadImage(str(cohort.parent / f"{row}.nii.gz")))
        lungs = sitk.GetArrayFromImage(sitk.ReadImage(str(cohort.parent / f"{row}_lungs.nii.gz"))) > 0
        assert found[row, 0] == pytest.approx((hu[lungs] < -950).mean(), abs=1e-12)
    # Drawn with a noise of 10 HU, holes are 4 deviations below the limit and tissue 9 above it.
    np.testing.assert_allclose(found[:, 0], scans.table["holes"], atol=2e-3)
    figures = Densitometry(progress=False).embed(scans)
    assert figures.shape == (SUBJECTS, len(FIGURES))
    np.testing.assert_array_equal(figures[:, 0], found[:, 0])


def test_cubes_and_views_show_the_whole_lungs(scans: Scans) -> None:
    survey = ScanFeatures(scans, progress=False)
    row = int(np.argmax(scans.table["holes"].to_numpy()))
    cube, views = survey.cubes([row])[0], survey.views([row])[0]
    assert cube.shape == (32, 32, 32)
    assert views.shape == (4, 32, 32)
    for picture in (cube[16], cube[:, 16], *views):
        assert (picture < -700).mean() > 0.3  # lung
        assert (picture > -100).mean() > 0.05  # what is about it
    np.testing.assert_allclose(survey.cubes([row], 16)[0].mean(), cube.mean(), rtol=1e-5)
    mean = (cube[4:8, 12:16, 12:16]).mean()
    np.testing.assert_allclose(survey.cubes([row], 8)[0][1, 3, 3], mean, rtol=1e-5)


def test_another_orientation_gives_the_same_regions(cohort: Path, tmp_path: Path) -> None:
    for kind in ("LPS", "RAS", "AIR"):
        for name in ("3", "3_lungs"):
            image = sitk.DICOMOrient(sitk.ReadImage(str(cohort.parent / f"{name}.nii.gz")), kind)
            sitk.WriteImage(image, str(tmp_path / f"{kind}_{name}.nii.gz"))
    found = []
    for kind in ("LPS", "RAS", "AIR"):
        volume = read_volume(tmp_path / f"{kind}_3.nii.gz")
        mask = read_mask(tmp_path / f"{kind}_3_lungs.nii.gz", like=volume)
        found.append((describe_regions(volume.array, mask), lung_box(mask)))
    assert found[0][0].shape[1] == FEATURES
    for regions, box in found[1:]:
        np.testing.assert_array_equal(regions, found[0][0])
        assert box == found[0][1]


def test_region_histograms_add_up_and_separate_holes_from_tissue(scans: Scans) -> None:
    survey = ScanFeatures(scans, progress=False)
    order = np.argsort(scans.table["holes"].to_numpy())
    well, sick = (survey.regions(int(order[k])) for k in (0, -1))
    for regions in (well, sick):
        np.testing.assert_allclose((regions[:, :32] ** 2).sum(axis=1), 1.0, atol=1e-5)
    width = (240 + 1024) / 32
    hole, tissue = (int((hu + 1024) / width) for hu in (HOLE, TISSUE))
    assert (well[:, : hole + 2] ** 2).sum() < 0.02 * len(well)
    assert (sick[:, : hole + 2] ** 2).sum() > 0.1 * len(sick)
    assert (well[:, tissue - 1 : tissue + 2] ** 2).sum() > 0.7 * len(well)


def test_a_scan_is_read_once_and_again_only_when_its_mask_has_changed(
    cohort: Path, scans: Scans, tmp_path: Path
) -> None:
    shutil.copytree(cohort.parent / "study", tmp_path / "study")
    shutil.copytree(scans.work, tmp_path / "work")
    mine = Scans(Study.open(tmp_path / "study"), scans.table, tmp_path / "work", 0, "quick", "cpu")
    files = {name: tmp_path / "work" / "scans-quick" / name / "figures.npy" for name in ("p01", "p02")}
    before = {name: file.stat().st_mtime_ns for name, file in files.items()}
    ScanFeatures(mine, progress=False)
    assert {name: file.stat().st_mtime_ns for name, file in files.items()} == before
    _, lungs = scan_and_mask(1, 0.1)
    lungs[lungs == 2] = 0
    write_image(lungs, tmp_path / "study" / "subjects" / "p01" / "lungs.nii.gz", 1)
    volume = FIGURES.index("volume")
    old = ScanFeatures(scans, progress=False).density()[:, volume]
    new = ScanFeatures(mine, progress=False).density()[:, volume]
    assert new[1] == pytest.approx(old[1] / 2, rel=0.05)
    assert files["p01"].stat().st_mtime_ns != before["p01"]
    assert files["p02"].stat().st_mtime_ns == before["p02"]


def test_missing_scans_are_all_named(cohort: Path, scans: Scans, tmp_path: Path) -> None:
    shutil.copytree(cohort.parent / "study", tmp_path / "study")
    for name in ("p03", "p04"):
        about = tmp_path / "study" / "subjects" / name / "subject.json"
        about.write_text(about.read_text(encoding="utf-8").replace(".nii.gz", ".gone.nii.gz"))
    mine = Scans(Study.open(tmp_path / "study"), scans.table[2:5], tmp_path / "work", 0, "quick", "cpu")
    with pytest.raises(
        UserError, match=r"2 of 3 scans cannot be read again.*p03: .*no longer exists.*p04: .*no longer exists"
    ):
        LAA950(progress=False).embed(mine)


@pytest.mark.parametrize("method", [BagOfWords, DivergenceEmbedding])
def test_fold_methods_find_the_holes(
    method: type[BagOfWords | DivergenceEmbedding], scans: Scans, folds: Folds, held_out: Probe
) -> None:
    truth = scans.table["holes"].to_numpy()
    predicted = np.zeros(len(truth))
    for train, test in folds:
        features = method(progress=False).embed_fold(scans, train, test)
        assert np.isfinite(features[np.concatenate([train, test])]).all()
        predicted[test] = held_out(features, truth, [(train, test)])[test]
    assert np.corrcoef(predicted, truth)[0, 1] > CHANCE


@pytest.mark.parametrize("method", [BagOfWords, DivergenceEmbedding])
def test_test_subjects_do_not_influence_the_fit(
    method: type[BagOfWords | DivergenceEmbedding], scans: Scans, folds: Folds
) -> None:
    """With other or fewer test subjects the training subjects get the same bits."""
    train, test = folds[0]
    whole = method(progress=False).embed_fold(scans, train, test)
    fewer = method(progress=False).embed_fold(scans, train, test[:2])
    np.testing.assert_array_equal(whole[train], fewer[train])
    np.testing.assert_array_equal(whole[test[:2]], fewer[test[:2]])
    assert np.isnan(fewer[test[2:]]).all()
    some = np.concatenate([train, test[:1]])
    table: pd.DataFrame = scans.table.iloc[some].reset_index(drop=True)
    alone = Scans(scans.study, table, scans.work.parent / f"alone-{method.slug}", 0, "quick", "cpu")
    alone.work.mkdir(exist_ok=True)
    if not (alone.work / "scans-quick").exists():
        shutil.copytree(scans.work / "scans-quick", alone.work / "scans-quick")
    places = np.arange(len(some))
    cohort_without_the_others = method(progress=False).embed_fold(alone, places[:-1], places[-1:])
    np.testing.assert_allclose(cohort_without_the_others[:-1], whole[train], atol=1e-9)
    np.testing.assert_allclose(cohort_without_the_others[-1], whole[test[0]], atol=1e-9)


def test_a_codebook_is_scikit_learns_on_scaled_regions_and_shares_add_up() -> None:
    random = np.random.default_rng(0)
    kinds = random.normal(size=(3, 5)) * 20
    subjects = [
        kinds[random.choice(3, 60, p=p)] + random.normal(size=(60, 5)) for p in ([0.8, 0.1, 0.1], [0.1, 0.1, 0.8])
    ]
    book = Codebook([p.astype(np.float32) for p in subjects], 3, 0)
    shares = np.stack([book.shares(p.astype(np.float32)) for p in subjects])
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    truth = np.stack(
        [np.sort(np.bincount(((p[:, None] - kinds) ** 2).sum(-1).argmin(1), minlength=3)) for p in subjects]
    )
    np.testing.assert_array_equal(np.sort(shares * 60, axis=1).round(), truth)


def test_unlabelled_sides_still_give_views() -> None:
    from anatograph.baselines.features.cubes import lung_views

    hu, lungs = scan_and_mask(0, 0.2)
    frame = Frame(hu.shape, (5.0,) * 3, (0.0,) * 3)  # type: ignore[arg-type]
    known, unknown = Mask(lungs, frame), Mask((lungs > 0).astype(np.uint8) * 3, frame)
    views = [lung_views(hu, mask, lung_box(mask), 24) for mask in (known, unknown)]
    np.testing.assert_array_equal(views[0][:2], views[1][:2])
    assert (views[1][2:] < -700).mean() > 0.3
