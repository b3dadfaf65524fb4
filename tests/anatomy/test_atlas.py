"""Landmarks against a plain loop, ITK's own coordinates, and the published list."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from anatograph.anatomy.atlas import (
    atlas_from_corners,
    build_atlas,
    build_atlas_from_path,
    default_atlas,
    load_atlas,
    save_atlas,
)
from anatograph.anatomy.markups import read_markups
from anatograph.errors import UserError
from anatograph.imaging.reading import read_mask
from anatograph.imaging.volume import Frame, Mask
from anatograph.phantoms.reference import reference_lungs


def blob(shape=(70, 60, 80), spacing=(1.0, 1.0, 1.0), origin=(-20.0, 5.0, -300.0)) -> Mask:
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = (x * 1.1) ** 2 + (y * 1.2 + 0.1) ** 2 + (z * 1.1 - 0.1 * x) ** 2 < 0.9
    return Mask(inside.astype(np.uint8) * 3, Frame(shape, spacing, origin))


def as_image(mask: Mask) -> sitk.Image:
    image = sitk.GetImageFromArray(mask.array)
    image.SetSpacing(mask.frame.spacing)
    image.SetOrigin(mask.frame.origin)
    image.SetDirection(mask.frame.direction.ravel().tolist())
    return image


def test_landmarks_are_those_of_a_plain_loop():
    mask, patch, step = blob(), 16, 11
    front = mask.lungs[:, ::-1, :]  # counted towards the front
    expected = []
    for x in range(0, 80, step):
        for y in range(0, 60, step):
            for z in range(0, 70, step):
                inside = front[z : z + patch, y : y + patch, x : x + patch].sum()
                if inside > 0.1 * patch**3:
                    expected.append((-20 + x + 7.5, 5 + 59 - y - 7.5, -300 + z + 7.5))
    atlas = build_atlas(mask, patch, step, 0.1)
    first_in_grid = atlas.landmarks[
        (atlas.landmarks[:, 0] >= -12.5) & (atlas.landmarks[:, 1] <= 56.5) & (atlas.landmarks[:, 2] >= -292.5)
    ]
    np.testing.assert_allclose(first_in_grid, expected)
    assert len(atlas) >= len(expected)


def test_a_mask_cropped_by_whole_steps_keeps_its_landmarks():
    mask, step = blob(), 6
    roomy = np.pad(mask.array, ((step * 3, 0), (0, step * 3), (step * 3, 0)))
    origin = tuple(np.subtract(mask.frame.origin, (step * 3, 0, step * 3)))
    inside = build_atlas(mask, 20, step, 0.1)
    padded = build_atlas(Mask(roomy, Frame(roomy.shape, (1.0, 1.0, 1.0), origin)), 20, step, 0.1)
    np.testing.assert_allclose(inside.landmarks, padded.landmarks)
    for atlas in (inside, padded):
        assert atlas.location_codes.min() >= 0
        np.testing.assert_array_equal(atlas.location_codes.max(axis=0), 1)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (0.7, 0.7, 5.0), (1.75, 1.25, 1.75)])
def test_other_voxels_are_taken_to_a_millimetre_first(spacing):
    small = blob((max(16, int(70 / spacing[2])), int(60 / spacing[1]), int(80 / spacing[0])), spacing)
    corner = small.frame.to_lps((0, small.frame.shape[1] - 1, 0))
    size = [int((n - 0.5) * s) + 1 for n, s in zip(small.frame.shape[::-1], spacing, strict=True)]
    fine = sitk.Resample(
        as_image(small), size, sitk.Transform(), sitk.sitkNearestNeighbor,
        (corner[0], corner[1] - size[1] + 1, corner[2]), (1, 1, 1), np.eye(3).ravel().tolist(), 0,
    )  # fmt: skip
    array = sitk.GetArrayFromImage(fine)
    expected = build_atlas(Mask(array, Frame(array.shape, (1.0, 1.0, 1.0), fine.GetOrigin())), 16, 11)
    atlas = build_atlas(small, 16, 11)
    # ITK breaks ties between two voxels its own way, so a borderline patch may differ.
    theirs = {tuple(row) for row in expected.landmarks.round(6)}
    ours = {tuple(row) for row in atlas.landmarks.round(6)}
    assert len(theirs ^ ours) <= 0.05 * len(theirs)
    noisy = Mask(small.array, Frame(small.frame.shape, tuple(np.float32(spacing) * (1 + 3e-8)), small.frame.origin))
    np.testing.assert_allclose(build_atlas(noisy, 16, 11).landmarks, atlas.landmarks, atol=1e-3)


def test_an_oblique_mask_gives_landmarks_inside_it():
    turn = np.radians(12.0)
    direction = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]])
    mask = blob()
    oblique = Mask(mask.array, Frame(mask.frame.shape, (1.0, 1.0, 1.0), mask.frame.origin, direction))
    atlas = build_atlas(oblique, 12, 12, 0.999)
    index = np.rint(oblique.frame.to_index(atlas.landmarks)).astype(int)
    assert len(atlas) > 10
    assert oblique.lungs[tuple(index[:, ::-1].T)].all()


def test_files_round_trip_and_changes_are_detected(tmp_path: Path):
    atlas = build_atlas(blob(), 16, 11)
    folder = save_atlas(atlas, tmp_path / "atlas")
    again = load_atlas(folder)
    assert again.hash == atlas.hash
    np.testing.assert_array_equal(again.landmarks, atlas.landmarks)
    np.testing.assert_array_equal(again.location_codes, atlas.location_codes)
    np.testing.assert_array_equal(again.lungs.array, atlas.lungs.array)
    assert again.lungs.frame.same_grid(atlas.lungs.frame, 1e-12)
    np.testing.assert_allclose(read_markups(folder / "landmarks.mrk.json"), atlas.landmarks)
    markups = json.loads((folder / "landmarks.mrk.json").read_text(encoding="utf-8"))
    assert markups["markups"][0]["coordinateSystem"] == "LPS"
    image = sitk.ReadImage(str(folder / "lungs.nii.gz"))
    np.testing.assert_allclose(image.GetOrigin(), atlas.lungs.frame.origin, atol=1e-4)
    content = json.loads((folder / "atlas.json").read_text(encoding="utf-8"))
    content["landmarks"][0][0] += 1
    (folder / "atlas.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="changed"):
        load_atlas(folder)
    with pytest.raises(UserError, match="no atlas here"):
        load_atlas(tmp_path)


def test_the_hash_distinguishes_atlases():
    atlas = build_atlas(blob(), 16, 11)
    assert build_atlas(blob(), 16, 11).hash == atlas.hash
    assert build_atlas(blob(), 16, 12).hash != atlas.hash
    assert build_atlas(blob(), 14, 11).hash != atlas.hash
    assert build_atlas(blob(origin=(-20.0, 5.0, -299.99)), 16, 11).hash != atlas.hash
    assert build_atlas(blob(origin=(-20.0, 5.0, -300.000001)), 16, 11).hash == atlas.hash


def test_refusals():
    mask = blob()
    empty = Mask(np.zeros_like(mask.array), mask.frame)
    for bad in ({"patch_size": 0}, {"step": 0}, {"min_coverage": 1.0}, {"patch_size": 64, "min_coverage": 0.9}):
        with pytest.raises(UserError):
            build_atlas(mask, **bad)
    with pytest.raises(UserError, match="empty"):
        build_atlas(empty)


def test_default_atlas_is_what_the_phantom_makes():
    atlas = default_atlas()
    assert build_atlas(reference_lungs()).hash == atlas.hash
    assert 500 <= len(atlas) <= 650
    assert (atlas.patch_size, atlas.step) == (32, 26)
    assert set(np.unique(atlas.lungs.array)) == {0, Mask.RIGHT, Mask.LEFT}


def test_a_mask_file_is_distinguished_from_a_scan(tmp_path: Path):
    mask = blob()
    sitk.WriteImage(as_image(mask), str(tmp_path / "mask.nii.gz"))
    atlas, notes = build_atlas_from_path(tmp_path / "mask.nii.gz", patch_size=16, step=11)
    assert atlas.hash == build_atlas(mask, 16, 11).hash
    assert notes == ()
    scan = as_image(mask)
    scan = sitk.Cast(scan, sitk.sitkInt16) * 300 - 1000
    scan = sitk.AdditiveGaussianNoise(scan, 20.0, 0.0, 1)
    sitk.WriteImage(scan, str(tmp_path / "scan.nii.gz"))
    given, _ = build_atlas_from_path(tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz", 16, 11)
    assert given.hash == atlas.hash


@pytest.fixture(scope="module")
def published(shared: Path) -> Path:
    return shared / "data" / "registration"


def test_published_mask_yields_575_of_the_published_places(published: Path, shared: Path):
    atlas = build_atlas(read_mask(published / "atlas_lungs.nii.gz"))
    image = sitk.ReadImage(str(published / "atlas_lungs.nii.gz"))
    corners = np.load(published / "atlas_patch_corners_voxel.npy")
    centres = np.array([image.TransformContinuousIndexToPhysicalPoint((corner + 15.5).tolist()) for corner in corners])
    rows = [int(np.argmin(np.abs(centres - point).sum(axis=1))) for point in atlas.landmarks]
    assert len(set(rows)) == len(atlas) == 575
    assert rows == sorted(rows)
    np.testing.assert_allclose(atlas.landmarks, centres[rows], atol=1e-4)

    listed = atlas_from_corners(published / "atlas_lungs.nii.gz", published / "atlas_patch_corners_voxel.npy")
    np.testing.assert_allclose(listed.landmarks, centres, atol=1e-4)
    codes = np.load(shared / "conformance" / "network_outputs.npz")["landmark_code"]
    np.testing.assert_allclose(listed.location_codes, codes, atol=1e-7)


@pytest.mark.parametrize("axes", ["RAS", "LAI", "PIR"])
def test_the_way_a_file_is_stored_changes_nothing(published: Path, tmp_path: Path, axes: str):
    image = sitk.ReadImage(str(published / "atlas_lungs.nii.gz"))
    sitk.WriteImage(sitk.DICOMOrient(image, axes), str(tmp_path / "mask.nii"))
    atlas = build_atlas(read_mask(published / "atlas_lungs.nii.gz"))
    assert build_atlas(read_mask(tmp_path / "mask.nii")).hash == atlas.hash


def test_corner_lists_that_cannot_be(tmp_path: Path):
    sitk.WriteImage(as_image(blob()), str(tmp_path / "mask.nii.gz"))
    sitk.WriteImage(as_image(blob(spacing=(2.0, 2.0, 2.0))), str(tmp_path / "coarse.nii.gz"))
    for file, corners in (("mask", np.zeros((0, 3))), ("mask", np.full((4, 3), 0.5)), ("coarse", np.zeros((4, 3)))):
        with pytest.raises(UserError):
            atlas_from_corners(tmp_path / f"{file}.nii.gz", corners)
    with pytest.raises(UserError, match="npy"):
        atlas_from_corners(tmp_path / "mask.nii.gz", tmp_path / "mask.nii.gz")
