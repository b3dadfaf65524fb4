"""The default registration: accuracy, invariance, truncated and incomplete lungs, files."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from lung_shapes import bend, draw, some_map

from anatograph.anatomy.atlas import Atlas, build_atlas, default_atlas
from anatograph.anatomy.registration import AffineMap, DeformableMap, Registration, load_map, register
from anatograph.anatomy.registration.displacement import SplineDisplacement
from anatograph.imaging.reading import read_mask
from anatograph.imaging.volume import Frame, Mask

HEIGHT = 25.0
"""mm by which the middle of the drawn lungs is raised, see `bend`."""
TRUTH = some_map(3)


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return build_atlas(draw(sided=True))


@pytest.fixture(scope="module")
def subject() -> Mask:
    return draw(TRUTH, height=HEIGHT, sided=True)


@pytest.fixture(scope="module")
def found(atlas: Atlas, subject: Mask) -> Registration:
    return register(atlas, subject)


def goals(points: np.ndarray) -> np.ndarray:
    return TRUTH.to_subject(bend(points, HEIGHT))


def test_a_known_deformation_is_found_and_lies_within_the_limits(atlas: Atlas, found: Registration):
    assert isinstance(found.map, DeformableMap)
    inner = atlas.lungs.contains(atlas.landmarks)
    points = atlas.landmarks[inner]
    errors = [np.linalg.norm(map_.to_subject(points) - goals(points), axis=1).mean() for map_ in _both(found)]
    assert errors[1] < 0.9 * errors[0]
    quality = found.quality
    assert quality["dice"] > 0.97
    assert min(quality["dice_right"], quality["dice_left"]) > 0.97
    assert quality["dice_affine"] < 0.95
    assert quality["landmarks_outside"] < 0.03
    assert quality["jacobian_min"] > 0.1
    assert quality["folded"] == 0
    assert quality["inverse_error_mm"] < 0.1
    assert quality["inverse_error_max_mm"] < 1.0
    assert quality["poor"] is False
    for side in ("right", "left"):
        assert quality[f"expected_{side}_ml"] == pytest.approx(quality[f"found_{side}_ml"], rel=0.03)
        thirds = [quality[f"found_{side}_{third}_ml"] for third in ("upper", "middle", "lower")]
        assert sum(thirds) == pytest.approx(quality[f"found_{side}_ml"])


def _both(found: Registration) -> tuple[AffineMap, DeformableMap]:
    assert isinstance(found.map, DeformableMap)
    return found.map.affine, found.map


def test_determinants_are_those_of_the_map(found: Registration):
    assert isinstance(found.map, DeformableMap)
    forward = found.map.forward
    points, determinants = forward.determinants()
    # Where the map reaches beyond its box its derivative is not defined.
    low, high = points.min(axis=0), points.max(axis=0)
    some = np.flatnonzero(((points > low + 1) & (points < high - 1)).all(axis=1))[::997]
    columns = [(forward(points[some] + step) - forward(points[some] - step)) / 0.02 for step in 0.01 * np.eye(3)]
    np.testing.assert_allclose(determinants[some], np.linalg.det(np.stack(columns, axis=-1)), atol=1e-3)


def test_same_bits_again_and_whole_voxels_move_the_landmarks_along(atlas: Atlas, subject: Mask, found: Registration):
    first = found.map.to_subject(atlas.landmarks)
    np.testing.assert_array_equal(register(atlas, subject, seed=5).map.to_subject(atlas.landmarks), first)
    frame = subject.frame
    padded = np.pad(subject.array, ((3, 10), (7, 0), (5, 9)))
    shift = np.array([14.0, -30.0, 250.0])
    origin = tuple(frame.to_lps((-5.0, -7.0, -3.0)) + shift)
    spacing = tuple(float(np.float32(step * (1 + 5e-8))) for step in frame.spacing)
    again = register(atlas, Mask(padded, Frame(padded.shape, spacing, origin))).map.to_subject(atlas.landmarks)
    np.testing.assert_allclose(again, first + shift, atol=0.01)


@pytest.mark.parametrize("end", ["base", "top"])
def test_nothing_is_pulled_towards_a_cut(atlas: Atlas, end: str):
    whole = draw(TRUTH, sided=True)
    array = whole.array.copy()
    rows = np.flatnonzero(array.any(axis=(1, 2)))
    border = int(rows[0] + 0.2 * len(rows)) if end == "base" else int(rows[-1] - 0.2 * len(rows))
    array[:border] *= end == "top"
    array[border:] *= end == "base"
    cut = register(atlas, Mask(array, whole.frame))
    assert any("truncated" in note for note in cut.notes)
    error = np.linalg.norm(cut.map.to_subject(atlas.landmarks) - TRUTH.to_subject(atlas.landmarks), axis=1)
    face = whole.frame.to_lps((0.0, 0.0, float(border)))[2]
    beyond = (TRUTH.to_subject(atlas.landmarks)[:, 2] < face) == (end == "base")
    assert error[beyond].mean() < 1.5
    assert error.mean() < 1.0


def test_a_lobe_that_is_gone_does_not_drag_the_rest(atlas: Atlas, subject: Mask, found: Registration):
    frame = subject.frame
    z, y, x = np.meshgrid(*(np.arange(n) for n in frame.shape), indexing="ij")
    place = TRUTH.to_atlas(frame.to_lps(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)))
    gone = ((place[:, 0] < 0) & (place[:, 2] < -40)).reshape(frame.shape)
    lobeless = register(atlas, Mask(np.where(gone, 0, subject.array).astype(np.uint8), frame))
    points = atlas.landmarks[atlas.lungs.contains(atlas.landmarks)]
    apart = np.linalg.norm(lobeless.map.to_subject(points) - found.map.to_subject(points), axis=1)
    other_lung, same_apex = points[:, 0] > 0, (points[:, 0] < 0) & (points[:, 2] > 20)
    assert np.median(apart[other_lung]) < 3.0
    assert np.median(apart[same_apex]) < 8.0
    assert lobeless.quality["jacobian_min"] > 0
    assert lobeless.quality["folded"] == 0


def test_sides_decide_which_lung_is_compared_with_which(atlas: Atlas, subject: Mask):
    swapped = np.choose(subject.array, [0, Mask.LEFT, Mask.RIGHT]).astype(np.uint8)
    result = register(atlas, Mask(swapped, subject.frame))
    assert result.quality["poor"] is True
    unsided = register(atlas, Mask((subject.array > 0).astype(np.uint8) * Mask.UNSIDED, subject.frame))
    assert unsided.quality["dice"] > 0.97
    assert "dice_right" not in unsided.quality


def test_files_are_small_and_itk_maps_as_we_do(tmp_path: Path, atlas: Atlas, found: Registration):
    path = found.map.save(tmp_path / "transform")
    back = tmp_path / "transform_inverse.h5"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["transform.h5", "transform_inverse.h5"]
    assert path.stat().st_size + back.stat().st_size < 2_000_000
    points = np.concatenate([atlas.landmarks, atlas.landmarks[:3] + 500])
    for file, ours in ((path, found.map.to_subject), (back, found.map.to_atlas)):
        itk = sitk.ReadTransform(str(file))
        theirs = np.array([itk.TransformPoint(point) for point in points.tolist()])
        np.testing.assert_allclose(ours(points), theirs, atol=1e-6)
    first = path.read_bytes()
    time.sleep(1.1)  # a time of writing inside the file would differ
    assert found.map.save(path).read_bytes() == first
    again = load_map(tmp_path / "transform")
    np.testing.assert_array_equal(again.to_subject(points), found.map.to_subject(points))
    np.testing.assert_array_equal(again.to_atlas(points), found.map.to_atlas(points))


def test_a_spline_goes_through_its_displacements():
    z, y, x = np.meshgrid(*(np.linspace(-2.5, 2.5, n) for n in (14, 16, 18)), indexing="ij")
    bell = 6 * np.exp(-(x**2 + y**2 + z**2))
    vectors = np.stack([bell, -bell / 2, bell / 3], axis=-1)
    spline = SplineDisplacement.through(vectors, 5.0, (1.0, 2.0, 3.0), 2.0**-7)
    index = np.argwhere(bell > -1)[:, ::-1]
    points = index * 5.0 + np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(spline(points) - points, vectors.reshape(-1, 3), atol=0.02)


PAIRS = ("01", "03", "05", "07", "09")


@pytest.fixture(scope="module")
def breaths(shared: Path) -> dict[str, tuple[float, float]]:
    """Mean landmark error in mm of the affine and of the deformable map for each breathing pair."""
    folder = shared / "data" / "registration"
    errors = {}
    for case in PAIRS:
        lungs = {breath: read_mask(folder / f"copd{case}_{breath}_lungs.nii.gz") for breath in ("exp", "insp")}
        points, goal = (
            np.loadtxt(folder / f"copd{case}_{breath}_landmarks_lps_mm.csv", delimiter=",", skiprows=1)
            for breath in ("exp", "insp")
        )
        maps = _both(register(build_atlas(lungs["exp"]), lungs["insp"]))
        affine, deformable = (np.linalg.norm(map_.to_subject(points) - goal, axis=1).mean() for map_ in maps)
        errors[case] = (float(affine), float(deformable))
    return errors


def test_breathing_pairs(breaths: dict[str, tuple[float, float]]):
    assert np.mean([deformable for _, deformable in breaths.values()]) <= 7.1
    for case, (affine, deformable) in breaths.items():
        assert deformable <= affine, case


@pytest.mark.parametrize("name", ["lung1", "small001", "small002"])
def test_real_scans_with_two_whole_lungs(shared: Path, name: str):
    quality = register(default_atlas(), read_mask(shared / "data" / "nifti" / f"{name}_lungs.nii.gz")).quality
    assert min(quality["dice"], quality["dice_right"], quality["dice_left"]) >= 0.95
    assert quality["landmarks_outside"] <= 0.05
    assert quality["jacobian_min"] > 0
    assert quality["inverse_error_mm"] <= 0.3
    assert quality["inverse_error_max_mm"] <= 1.0
    assert quality["poor"] is False


def test_a_lung_with_one_side_only_is_matched_with_that_side(atlas: Atlas, subject: Mask):
    right = [Mask(np.where(mask.array == 1, 1, 0).astype(np.uint8), mask.frame) for mask in (atlas.lungs, subject)]
    result = register(replace(atlas, lungs=right[0]), right[1])
    assert result.quality["dice_right"] > 0.97
    assert "dice_left" not in result.quality
