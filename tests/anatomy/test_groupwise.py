"""The mean shape of a group: nearer to its members than the template it started from, and continued after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from lung_shapes import draw

import anatograph
from anatograph.anatomy.atlas import Atlas
from anatograph.anatomy.groupwise import MeanShape, rigid_distance
from anatograph.anatomy.registration import AffineMap, DeformableMap, Registration
from anatograph.anatomy.registration.displacement import SplineDisplacement
from anatograph.errors import UserError
from anatograph.imaging.reading import read_mask, write_mask
from anatograph.imaging.volume import Mask
from anatograph.phantoms.settings import PhantomSettings
from anatograph.phantoms.subject import make_subject


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phantoms' lungs."""
    folder = tmp_path_factory.mktemp("group")
    lines = ["subject_id,image,lungs"]
    for index in range(2):
        lungs = make_subject(4, index, PhantomSettings(spacing_mm=5.0)).lungs
        write_mask(folder / f"p{index}.nii.gz", lungs)
        lines.append(f"p{index},p{index}.nii.gz,p{index}.nii.gz")
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "cohort.csv"


def test_the_mean_is_nearer_to_the_phantoms_than_the_shipped_atlas(cohort: Path, tmp_path: Path):
    built = anatograph.atlas(cohort, tmp_path / "atlas", groupwise=True, iterations=2)
    account = json.loads((tmp_path / "atlas" / "atlas.run.json").read_text(encoding="utf-8"))
    shipped, mean = account["results"]["distances_mm"]
    assert mean < shipped
    assert account["results"]["subjects"] == 2
    assert (tmp_path / "atlas" / "atlas.png").stat().st_size > 10_000
    assert not (tmp_path / "atlas" / "groupwise").exists()
    assert len(built) > 200
    assert set(np.unique(built.lungs.array)) == {0, Mask.RIGHT, Mask.LEFT}
    volumes = [read_mask(cohort.parent / f"p{index}.nii.gz") for index in range(2)]
    litres = [mask.lungs.sum() * mask.frame.voxel_volume / 1e6 for mask in volumes]
    assert min(litres) < built.lungs.lungs.sum() / 1e6 < max(litres)


def test_the_mean_of_affine_images_is_the_mean_affine_image():
    template = draw(sided=True)
    matrices = [np.diag([1.1, 1.0, 0.9]), np.diag([0.94, 1.06, 1.16])]
    mean = MeanShape(template)
    for matrix in matrices:
        map_ = AffineMap(matrix, (20.0, -10.0, 5.0))
        flat = SplineDisplacement(np.zeros((30, 26, 34, 3)), np.full(3, 12.0), (-200.0, -150.0, -180.0), np.eye(3))
        mean.add(draw(map_, sided=True), DeformableMap(map_, flat, flat))
    found = mean.template(2.0)
    expected = draw(AffineMap(np.mean(matrices, axis=0), np.zeros(3)), sided=True)
    volumes = [mask.lungs.sum() * mask.frame.voxel_volume for mask in (found, expected)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.01)
    extents = []
    for mask in (found, expected):
        index = np.argwhere(mask.array == Mask.RIGHT)
        extents.append((np.ptp(index, axis=0) + 1) * np.array(mask.frame.spacing[::-1]))
    np.testing.assert_allclose(extents[0], extents[1], atol=4.1)


def test_distance_ignores_pose_and_counts_size():
    points = np.random.default_rng(0).normal(0, 80, (500, 3))
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert rigid_distance(points, points @ turn + 100) == pytest.approx(0, abs=1e-9)
    assert rigid_distance(points, 1.1 * points) == pytest.approx(0.1 * np.linalg.norm(points, axis=1).mean(), rel=0.05)


def test_an_interrupted_run_continues_with_its_own_cohort_only(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import anatograph.study.atlas as module

    calls = []

    def stops(atlas: Atlas, lungs: Mask) -> Registration:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        flat = SplineDisplacement(np.zeros((30, 26, 34, 3)), np.full(3, 12.0), (-200.0, -150.0, -180.0), np.eye(3))
        affine = AffineMap(np.eye(3), np.zeros(3))
        return Registration(DeformableMap(affine, flat, flat), "deformable", {"poor": False})

    monkeypatch.setattr(module, "register", stops)
    out = tmp_path / "atlas"
    with pytest.raises(KeyboardInterrupt):
        anatograph.atlas(cohort, out, groupwise=True, iterations=1)
    assert sorted(file.name for file in (out / "groupwise" / "iteration_1").glob("p?.h5")) == ["p0.h5"]
    other = tmp_path / "other.csv"
    rows = cohort.read_text(encoding="utf-8").replace("p0,", "q0,").replace(",p", f",{cohort.parent}/p")
    other.write_text(rows, encoding="utf-8")
    with pytest.raises(UserError, match="other subjects"):
        anatograph.atlas(other, out, groupwise=True, iterations=1)
    said: list[str] = []
    monkeypatch.setattr(module.Progress, "say", lambda _, sentence: said.append(sentence))
    anatograph.atlas(cohort, out, groupwise=True, iterations=1)
    assert len(calls) == 3
    assert [sentence.partition(":")[0] for sentence in said] == ["mean distance of 2 subjects from the built-in atlas"]


def test_a_subject_left_out_is_named_at_once(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import anatograph.study.atlas as module

    said: list[str] = []
    monkeypatch.setattr(module.Progress, "say", lambda _, sentence: said.append(sentence))
    single = read_mask(cohort.parent / "p0.nii.gz")
    write_mask(
        tmp_path / "half.nii.gz", Mask(np.where(single.array == Mask.RIGHT, 1, 0).astype(np.uint8), single.frame)
    )
    table = tmp_path / "half.csv"
    table.write_text("subject_id,image,lungs\nhalf,half.nii.gz,half.nii.gz\n", encoding="utf-8")
    with pytest.raises(UserError, match="needs 2"):
        anatograph.atlas(table, tmp_path / "c", groupwise=True, iterations=1)
    assert said == ["note: half left out: its mask does not show two lungs apart"]


def test_refusals(cohort: Path, tmp_path: Path):
    with pytest.raises(UserError, match="column lungs"):
        anatograph.atlas(cohort, tmp_path / "a", lungs="mask.nii.gz", groupwise=True)
    one = tmp_path / "one.csv"
    one.write_text(
        f"subject_id,image,lungs\np0,{cohort.parent}/p0.nii.gz,{cohort.parent}/p0.nii.gz\n", encoding="utf-8"
    )
    with pytest.raises(UserError, match="needs 2"):
        anatograph.atlas(one, tmp_path / "b", groupwise=True, iterations=1)
