"""Diseased fractions of patches against counting, whatever way a mask is stored, and held-out predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from sklearn.linear_model import Ridge

from anatograph.errors import UserError
from anatograph.evaluation.probes.ridge import RIDGE_STRENGTHS, ridge_path
from anatograph.evaluation.region_truth import box_fraction, diseases_with_masks, predict_regions, region_target


def test_fraction_is_the_count_of_voxels_in_the_cube(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    array = (random.random((30, 40, 50)) < 0.3).astype(np.uint8)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 4.0))
    image.SetOrigin((-20.0, 5.0, 100.0))
    sitk.WriteImage(image, str(tmp_path / "lps.nii.gz"))
    sitk.WriteImage(sitk.DICOMOrient(image, "RAI"), str(tmp_path / "rai.nii.gz"))
    sitk.WriteImage(sitk.DICOMOrient(image, "SAR"), str(tmp_path / "sar.nii.gz"))
    # Centres between voxels, so that no edge of the 16 mm cube cuts one; the last hangs out of the image.
    landmarks = np.array([[21.0, 40.0, 150.0], [31.0, 50.0, 130.0], [-20.0, 4.0, 98.0]])
    z, y, x = np.meshgrid(*(np.arange(n) for n in array.shape), indexing="ij")
    places = np.stack([x * 2.0 - 20.0, y * 2.0 + 5.0, z * 4.0 + 100.0], axis=-1)
    expected = []
    for landmark in landmarks:
        inside = (np.abs(places - landmark) < 8.0).all(axis=-1)
        expected.append(array[inside].sum() / (16.0**3 / 16.0))
    for name in ("lps", "rai", "sar"):
        found = box_fraction(tmp_path / f"{name}.nii.gz", landmarks, 16.0)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    with pytest.raises(UserError, match="cannot be read as an image"):
        box_fraction(tmp_path / "none.nii.gz", landmarks, 16.0)


def test_columns_of_masks() -> None:
    table = pd.DataFrame(columns=["subject_id", "image", "emphysema_mask", "mask", "_mask", "ground_glass_mask"])
    assert diseases_with_masks(table) == ["emphysema", "ground_glass"]


def test_a_persons_patches_stay_together() -> None:
    """A feature that only identifies the subject: of use within a subject, of none for others."""
    random = np.random.default_rng(1)
    truth = random.random((12, 1)) * np.ones((12, 30)) + random.normal(0, 0.01, (12, 30))
    features = random.normal(size=(12, 1, 5)) * np.ones((12, 30, 5)) + random.normal(0, 0.01, (12, 30, 5))
    features[0, 3] = np.nan
    target = region_target("x", truth, np.isfinite(features).all(axis=2))
    assert len(target.rows) == 12 * 30 - 1
    subjects = np.arange(12)
    splits = [(np.setdiff1d(subjects, part), part) for part in np.array_split(subjects, 4)]
    done = predict_regions(features, target, splits, None, 0)
    person = target.rows // 30
    for k, (_, test) in enumerate(splits):
        assert set(person[done.fold == k]) == set(test)
    error = ((done.predicted - target.values) ** 2).mean() / target.values.var()
    assert error > 0.5
    with pytest.raises(UserError, match="No patch"):
        region_target("x", np.zeros((3, 4)), np.ones((3, 4), dtype=bool))


def test_tall_ridge_is_the_same_ridge() -> None:
    random = np.random.default_rng(2)
    x = random.normal(size=(400, 6)) @ random.normal(size=(6, 6))
    x -= x.mean(axis=0)
    y = random.normal(size=400)
    y -= y.mean()
    path = ridge_path(x, y)
    for k in (0, 10, 20, 40):
        witness = Ridge(alpha=RIDGE_STRENGTHS[k] * 400, fit_intercept=False).fit(x, y).coef_
        np.testing.assert_allclose(path[k], witness, rtol=1e-6, atol=1e-10)
