"""Quantitative CT agrees with plain computations on the mask, and knows padding, noise, sides, thirds and lobes."""

from __future__ import annotations

from math import erf, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from anatograph.anatomy.atlas import build_atlas
from anatograph.errors import UserError
from anatograph.evaluation.densitometry.api import DensitometryResult, densitometry
from anatograph.evaluation.densitometry.measures import (
    MEASURES,
    laa950_from_noise,
    lung_voxels,
    noise_hu,
    padding,
    vessels,
)
from anatograph.evaluation.densitometry.zones import LOBES, lobe_zones
from anatograph.imaging.reading import read_mask, read_volume
from anatograph.imaging.volume import Frame, Mask
from anatograph.study.original_scan import original_scan
from anatograph.study.preprocess import preprocess
from anatograph.study.store import Study
from fixtures.chest import two_lungs

SHAPE, SPACING = (30, 40, 48), (6.0, 6.0, 7.0)


def scan(seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    body, labels = two_lungs(SHAPE, (22, 18), (13, 34), (9, 13, 12), np.ones(3))
    hu = np.where(body, 40.0, -1000.0)
    hu[labels > 0] = -860
    hu[:15][labels[:15] > 0] = -970  # the lower half of both lungs is emphysematous
    hu += np.random.default_rng(seed).normal(0, noise, SHAPE)
    return np.clip(np.rint(hu), -1024, None).astype(np.int16), labels


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[DensitometryResult, Path]:
    folder = tmp_path_factory.mktemp("densitometry")
    rows = []
    for k, noise in enumerate((5.0, 60.0)):
        hu, labels = scan(k, noise)
        for name, array in ((f"{k}", hu), (f"{k}_lungs", labels)):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(SPACING)
            image.SetOrigin((-140.0, -110.0, -100.0))
            sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
        rows.append({"subject_id": f"s{k}", "image": f"{k}.nii.gz", "lungs": f"{k}_lungs.nii.gz"})
    pd.DataFrame(rows).to_csv(folder / "cohort.csv", index=False)
    atlas = build_atlas(Mask(scan(0, 0)[1], Frame(SHAPE, SPACING, (0.0, 0.0, 0.0))), patch_size=32, step=40)
    preprocess(folder / "cohort.csv", folder / "study", atlas, "given", progress=False)
    (folder / "lobes").mkdir()
    lobes = scan(0, 0)[1].copy()
    upper = np.zeros(SHAPE, dtype=bool)
    upper[15:] = True
    lobes = np.where(lobes == 2, np.where(upper, 1, 2), np.where(lobes == 1, np.where(upper, 3, 5), 0)).astype(np.uint8)
    image = sitk.GetImageFromArray(lobes)
    image.SetSpacing(SPACING)
    image.SetOrigin((-140.0, -110.0, -100.0))
    sitk.WriteImage(image, str(folder / "lobes" / "s0.nii.gz"))
    return densitometry(folder / "study", folder / "out.parquet", lobes=folder / "lobes"), folder


def test_whole_lung_measures_are_those_of_plain_numpy(measured: tuple[DensitometryResult, Path]) -> None:
    found, folder = measured
    row = pd.read_parquet(folder / "out.parquet").set_index("subject_id").loc["s0"]
    hu = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "0.nii.gz")))
    lungs = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "0_lungs.nii.gz")))
    values, voxel_ml = hu[lungs > 0].astype(float), np.prod(SPACING) / 1000
    assert row["whole_volume_ml"] == pytest.approx(len(values) * voxel_ml)
    assert row["whole_mass_g"] == pytest.approx(((values + 1000) / 1000).sum() * voxel_ml)
    assert row["whole_mean_hu"] == pytest.approx(values.mean())
    assert row["whole_sd_hu"] == pytest.approx(values.std())
    assert row["whole_perc15"] == pytest.approx(np.percentile(values, 15))
    for name, limit in (("laa950", -950), ("laa910", -910), ("laa856", -856)):
        assert row[f"whole_{name}"] == pytest.approx((values < limit).mean())
    assert row["right_volume_ml"] + row["left_volume_ml"] == pytest.approx(row["whole_volume_ml"])
    assert row["right_mean_hu"] == pytest.approx(hu[lungs == 1].mean())
    assert found.path == folder / "out.parquet"


def test_thirds_and_lobes_locate_the_emphysema(measured: tuple[DensitometryResult, Path]) -> None:
    row = measured[0].table.set_index("subject_id").loc["s0"]
    for side in ("right", "left"):
        assert row[f"{side}_lower_laa950"] > 0.99
        assert 0.2 < row[f"{side}_middle_laa950"] < 0.8
        assert row[f"{side}_upper_laa950"] == 0.0
        parts = [row[f"{side}_{third}_volume_ml"] for third in ("upper", "middle", "lower")]
        assert sum(parts) == pytest.approx(row[f"{side}_volume_ml"])
    assert row["lower_laa950"] > 0.99
    assert row["right_lower_lobe_laa950"] > 0.99
    assert row["left_upper_lobe_laa950"] == 0.0
    assert row["right_middle_lobe_volume_ml"] != row["right_middle_lobe_volume_ml"]  # this mask has no middle lobe
    other = measured[0].table.set_index("subject_id").loc["s1"]
    assert np.isnan(other[[f"{name}_laa950" for name in LOBES]].to_numpy(float)).all()  # no lobe mask at all


def test_lobes_of_totalsegmentator_are_understood(measured: tuple[DensitometryResult, Path], tmp_path: Path) -> None:
    _, folder = measured
    image = sitk.ReadImage(str(folder / "lobes" / "s0.nii.gz"))
    array = sitk.GetArrayFromImage(image)
    theirs = np.select([array == label for label in (1, 2, 3, 5)], [10, 11, 12, 14], 0).astype(np.uint8)
    theirs[0, 0, :3] = 51  # the heart, and everything else that it segments
    for name, values in (("ours", array), ("theirs", theirs)):
        other = sitk.GetImageFromArray(values)
        other.CopyInformation(image)
        sitk.WriteImage(other, str(tmp_path / f"{name}.nii.gz"))
    volume, lungs = original_scan(Study.open(folder / "study"), "s0")
    voxels = lung_voxels(volume.array, lungs.lungs, volume.frame.spacing)
    one, two = (lobe_zones(voxels, tmp_path / f"{name}.nii.gz", volume.frame) for name in ("ours", "theirs"))
    for name in LOBES:
        np.testing.assert_array_equal(one[name], two[name])
    assert one["left_upper_lobe"].any()


def test_landmarks_are_measured_in_their_cubes(measured: tuple[DensitometryResult, Path]) -> None:
    found, folder = measured
    near = pd.read_parquet(folder / "out.landmarks.parquet")
    assert list(near.columns) == ["subject_id", "landmark", *MEASURES]
    subject = Study.open(folder / "study").subject("s0")
    hu, lungs = (sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"0{end}.nii.gz"))) for end in ("", "_lungs"))
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    place = np.stack([x, y, z], -1) * SPACING + (-140.0, -110.0, -100.0)
    for number in near.loc[near["subject_id"] == "s0", "landmark"].iloc[::5]:
        inside = (np.abs(place - subject.landmarks[number]) <= 16).all(-1) & (lungs > 0)
        row = near[(near["subject_id"] == "s0") & (near["landmark"] == number)].iloc[0]
        assert row["mean_hu"] == pytest.approx(hu[inside].mean())
    assert len(near) == len(found.landmarks)


def test_noise_is_measured_and_a_note_says_where_laa_950_means_nothing(
    measured: tuple[DensitometryResult, Path],
) -> None:
    table = measured[0].table.set_index("subject_id")
    assert table.loc["s0", "noise_hu"] == pytest.approx(5, abs=1.5)
    assert table.loc["s1", "noise_hu"] == pytest.approx(60, rel=0.15)
    assert laa950_from_noise(-860, 60) == pytest.approx(0.5 * (1 + erf(-90 / (60 * sqrt(2)))))
    assert laa950_from_noise(-860, 0) == 0.0
    notes = " ".join(measured[0].account.notes)
    assert "LAA-950 of 1 of 2 scans is not reliable (s1)" in notes
    lungs = np.ones((9, 20, 20), dtype=bool)
    random = np.random.default_rng(0)
    assert noise_hu((-850 + random.normal(0, 30, lungs.shape)).astype(np.int16), lungs) == pytest.approx(30, rel=0.1)
    assert np.isnan(noise_hu(np.full((2, 9, 9), -850, np.int16), lungs[:2, :9, :9]))


def test_padding_is_left_out_and_single_dark_voxels_are_not() -> None:
    hu = np.full((12, 16, 16), -860, dtype=np.int16)
    hu[:, :, :4] = -1024
    hu[6, 8, 10] = -1024
    assert padding(hu)[:, :, :4].all()
    assert not padding(hu)[:, :, 4:].any()
    voxels = lung_voxels(hu, np.ones(hu.shape, dtype=bool), (1.0, 1.0, 1.0))
    measures = voxels.measure()
    assert measures["volume_ml"] == pytest.approx(12 * 16 * 12 / 1000)
    assert measures["laa950"] == pytest.approx(1 / (12 * 16 * 12))
    assert all(np.isnan(value) for value in voxels.measure(np.zeros(len(voxels.hu), dtype=bool)).values())


def test_thin_dense_structures_are_vessels_and_wide_ones_are_not() -> None:
    hu = np.full((30, 30, 30), -860, dtype=np.int16)
    hu[:, 4:6, 4:6] = 40
    hu[5:25, 12:28, 10:28] = -100
    marked = vessels(hu, np.ones(hu.shape, dtype=bool), (1.0, 1.0, 1.0))
    assert marked[:, 4:6, 4:6].all()
    assert not marked[10:20, 16:24, 14:24].any()


def test_heterogeneity_is_the_spread_of_block_means() -> None:
    hu = np.full((20, 20, 20), -900, dtype=np.int16)
    hu[10:] = -800
    even = lung_voxels(np.full_like(hu, -850), np.ones(hu.shape, dtype=bool), (1.0, 1.0, 1.0)).measure()
    uneven = lung_voxels(hu, np.ones(hu.shape, dtype=bool), (1.0, 1.0, 1.0)).measure()
    assert even["heterogeneity"] == 0
    assert uneven["heterogeneity"] == pytest.approx(50)


def test_requests_that_cannot_be_met_are_refused(measured: tuple[DensitometryResult, Path], tmp_path: Path) -> None:
    _, folder = measured
    with pytest.raises(UserError, match=r"must be a Parquet file"):
        densitometry(folder / "study", tmp_path / "out.csv")
    with pytest.raises(UserError, match="no folder"):
        densitometry(folder / "study", tmp_path / "out.parquet", lobes=tmp_path / "none")
    (tmp_path / "lobes").mkdir()
    image = sitk.ReadImage(str(folder / "lobes" / "s0.nii.gz"))
    sitk.WriteImage(image * 2, str(tmp_path / "lobes" / "s0.nii.gz"))
    done = densitometry(folder / "study", tmp_path / "out.parquet", lobes=tmp_path / "lobes")
    assert [failure.subject_id for failure in done.account.failures] == ["s0"]
    assert "labels must be 1 left_upper_lobe" in done.account.failures[0].reason
    assert list(done.table["subject_id"]) == ["s1"]


def test_real_scans_have_no_padding_in_their_lungs(shared: Path) -> None:
    """Expert masks of real scans, one of them padded near -3000 HU, against plain numpy."""
    for name in ("small001", "small002"):
        volume = read_volume(shared / "data" / "nifti" / f"{name}.nii.gz")
        mask = read_mask(shared / "data" / "nifti" / f"{name}_lungs.nii.gz", like=volume)
        found = lung_voxels(volume.array, mask.lungs, volume.frame.spacing).measure()
        values = volume.array[mask.lungs].astype(float)
        assert found["volume_ml"] == pytest.approx(len(values) * volume.frame.voxel_volume / 1000, rel=1e-3)
        assert found["mean_hu"] == pytest.approx(values.mean(), abs=0.5)
        assert found["laa950"] == pytest.approx((values < -950).mean(), abs=1e-3)
