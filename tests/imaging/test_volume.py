"""A frame says where voxels lie, as SimpleITK does."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from anatograph.imaging.volume import Frame, Mask, Volume


def oblique(seed: int) -> Frame:
    rng = np.random.default_rng(seed)
    direction = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    spacing, origin = rng.uniform(0.5, 4, 3), rng.uniform(-500, 500, 3)
    return Frame((7, 9, 11), tuple(map(float, spacing)), tuple(map(float, origin)), direction)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_points_agree_with_simpleitk_both_ways(seed: int) -> None:
    frame = oblique(seed)
    image = sitk.Image([11, 9, 7], sitk.sitkUInt8)
    image.SetSpacing(frame.spacing)
    image.SetOrigin(frame.origin)
    image.SetDirection(frame.direction.ravel().tolist())
    index = np.random.default_rng(seed).uniform(-3, 12, (5, 3))
    points = frame.to_lps(index)
    for i, point in zip(index, points, strict=True):
        np.testing.assert_allclose(point, image.TransformContinuousIndexToPhysicalPoint(i.tolist()), atol=1e-9)
    np.testing.assert_allclose(frame.to_index(points), index, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), start=st.tuples(*[st.integers(-4, 4)] * 3))
def test_a_crop_keeps_every_voxel_in_its_place(seed: int, start: tuple[int, int, int]) -> None:
    frame = oblique(seed)
    part = frame.crop(start, (3, 2, 4))
    assert part.shape == (3, 2, 4)
    np.testing.assert_allclose(part.to_lps([1, 1, 2]), frame.to_lps(np.array([1, 1, 2]) + start[::-1]), atol=1e-9)


def test_voxel_volume_and_alignment() -> None:
    frame = Frame((2, 2, 2), (0.5, 2.0, 3.0), (0.0, 0.0, 0.0))
    assert frame.voxel_volume == pytest.approx(3.0)
    assert frame.is_axis_aligned
    assert not oblique(1).is_axis_aligned


def test_same_grid_sees_half_a_voxel_and_not_rounding() -> None:
    frame = oblique(3)
    moved = np.asarray(frame.origin) + 1e-5
    assert frame.same_grid(Frame(frame.shape, frame.spacing, tuple(moved), frame.direction))
    moved = np.asarray(frame.origin) + 0.2
    assert not frame.same_grid(Frame(frame.shape, frame.spacing, tuple(moved), frame.direction))
    assert not frame.same_grid(Frame((7, 9, 12), frame.spacing, frame.origin, frame.direction))


def test_arrays_must_fit_their_frame() -> None:
    frame = Frame((2, 3, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="does not fit"):
        Volume(np.zeros((4, 3, 2), np.int16), frame)
    with pytest.raises(ValueError, match="does not fit"):
        Mask(np.zeros((4, 3, 2), np.uint8), frame)
