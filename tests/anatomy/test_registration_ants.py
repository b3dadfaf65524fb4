"""Deformable maps: files that ITK reads, and ANTs where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from lung_shapes import bend, draw, some_map

from anatograph.anatomy.atlas import build_atlas
from anatograph.anatomy.registration import DeformableMap, load_map, register
from anatograph.anatomy.registration.displacement import LinearDisplacement
from anatograph.imaging.volume import Mask


def bump(height: float) -> LinearDisplacement:
    """A smooth shift of the middle, on a grid that is neither cubic nor along the axes."""
    z, y, x = np.meshgrid(*(np.linspace(-2.5, 2.5, n) for n in (20, 24, 28)), indexing="ij")
    bell = height * np.exp(-(x**2 + y**2 + z**2))
    direction = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    return LinearDisplacement(
        np.stack([bell, -bell / 2, bell / 3], axis=-1), (4.0, 5.0, 6.0), (60.0, -50.0, -55.0), direction
    )


def test_files_hold_both_directions_as_itk_composites(tmp_path: Path):
    map_ = DeformableMap(some_map(5), bump(6.0), bump(-6.0))
    path = map_.save(tmp_path / "transform.tfm")
    assert path.name == "transform.h5"
    points = np.random.default_rng(1).uniform(-40, 40, (50, 3))
    for itk_path, ours in ((path, map_.to_subject), (tmp_path / "transform_inverse.h5", map_.to_atlas)):
        itk = sitk.ReadTransform(str(itk_path))
        theirs = np.array([itk.TransformPoint(tuple(point)) for point in points.tolist()])
        np.testing.assert_allclose(ours(points), theirs, atol=1e-6)
    again = load_map(tmp_path / "transform")
    np.testing.assert_array_equal(again.to_subject(points), map_.to_subject(points))
    np.testing.assert_array_equal(again.to_atlas(points), map_.to_atlas(points))


def test_jacobian_is_itks_and_turns_with_the_grid():
    turned = bump(6.0)
    # ITK's filter differentiates along the grid's axes, so it is given the same field on straight axes.
    straight = LinearDisplacement(turned.values @ turned.direction, turned.spacing, turned.origin, np.eye(3))
    image = sitk.GetImageFromArray(straight.values, isVector=True)
    image.SetSpacing(straight.spacing.tolist())
    theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    inner = (slice(2, -2),) * 3
    ours = straight.determinants()[1].reshape(theirs.shape)
    np.testing.assert_allclose(ours[inner], theirs[inner], atol=1e-5)
    np.testing.assert_allclose(turned.determinants()[1], straight.determinants()[1], atol=1e-9)


def small(mask: Mask) -> Mask:
    """The lungs at 40 % of their size, so that ANTs is done in seconds."""
    from dataclasses import replace

    frame = mask.frame
    shrunk = replace(frame, spacing=tuple(0.4 * np.array(frame.spacing)), origin=tuple(0.4 * np.array(frame.origin)))
    return Mask(mask.array, shrunk)


@pytest.mark.slow
def test_ants_syn_repeats_and_beats_affine():
    pytest.importorskip("ants")
    atlas = build_atlas(small(draw(spacing=(4.0, 4.0, 4.0))), patch_size=16, step=12)
    truth = some_map(3)
    subject = small(draw(truth, (4.0, 4.0, 4.0), height=25.0))
    first = register(atlas, subject, "ants-syn")
    again = register(atlas, subject, "ants-syn")
    points = atlas.landmarks
    assert np.array_equal(first.map.to_subject(points), again.map.to_subject(points))
    assert np.array_equal(first.map.to_atlas(points), again.map.to_atlas(points))
    assert first.quality["dice"] > first.quality["dice_affine"] + 0.01
    goals = 0.4 * truth.to_subject(bend(points / 0.4, 25.0))
    affine = register(atlas, subject, "affine").map
    errors = [np.linalg.norm(map_.to_subject(points) - goals, axis=1).mean() for map_ in (affine, first.map)]
    assert errors[1] < errors[0]
    assert first.quality["jacobian_min"] > 0
    assert first.quality["inverse_error_mm"] < 0.5
    back = first.map.to_atlas(first.map.to_subject(points))
    assert np.linalg.norm(back - points, axis=1).mean() < 0.5


def test_the_published_recipe_finds_a_known_map():
    pytest.importorskip("ants")
    truth = some_map(2, entries=0.03, shift=10.0)
    atlas = build_atlas(draw(spacing=(8.0, 8.0, 8.0)), patch_size=32, step=26)
    result = register(atlas, draw(truth, (8.0, 8.0, 8.0)), "ants-affine")
    error = np.linalg.norm(result.map.to_subject(atlas.landmarks) - truth.to_subject(atlas.landmarks), axis=1)
    assert error.mean() < 2.0
    assert result.method == "ants-affine"
