"""Half-real cohorts: disease drawn into given scans, with true masks, on their own grid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.imaging.reading import read_mask, read_volume
from anatograph.imaging.volume import Frame, Mask, Volume
from anatograph.phantoms import PhantomSettings, PhantomSubject, make_subject
from anatograph.phantoms.api import phantom
from anatograph.phantoms.disease.description import Bias, Disease
from anatograph.phantoms.disease.lesions import MASKS, draw_lesions
from anatograph.phantoms.folder import write_nifti
from anatograph.phantoms.onto.anatomy import lung_places
from anatograph.phantoms.onto.cohort import Base, write_onto
from anatograph.phantoms.onto.draw import draw_onto
from anatograph.phantoms.onto.painting import paint_lesions
from anatograph.phantoms.onto.warp import output_frame, warp_scan
from anatograph.phantoms.settings import ADDED
from anatograph.phantoms.thorax.lungtrees import supply_points

SETTINGS = PhantomSettings(scanners=ADDED[:1], diseased_share=1.0)


@pytest.fixture(scope="module")
def scan() -> PhantomSubject:
    """A healthy scan, as a patient's."""
    return make_subject(5, 0, PhantomSettings(spacing_mm=3.0, diseased_share=0.0))


@pytest.fixture(scope="module")
def table(scan: PhantomSubject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of that scan, given with its lungs and an age, and of a file that is not a scan."""
    folder = tmp_path_factory.mktemp("patients")
    write_nifti(scan.volume.array, scan.volume.frame, folder / "a.nii.gz")
    write_nifti(scan.lungs.array, scan.volume.frame, folder / "a-lungs.nii.gz")
    (folder / "b.nii.gz").write_bytes(b"no scan")
    rows = [("patient", "a.nii.gz", "a-lungs.nii.gz", "normal", 71), ("broken", "b.nii.gz", "", "normal", "")]
    path = folder / "cohort.csv"
    pd.DataFrame(rows, columns=["subject_id", "image", "lungs", "diagnosis", "age"]).to_csv(path, index=False)
    return path


def painted(scan: PhantomSubject, disease: Disease) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A disease painted into the unwarped scan."""
    hu = scan.volume.array.astype(np.float32)
    places, box = lung_places(scan.lungs.array, scan.volume.frame)
    points = supply_points(places.depth, places.stage, 8.0, np.random.default_rng(0))
    lesions = draw_lesions(disease, places, points, box, np.random.default_rng(1))
    return hu, paint_lesions(hu, scan.lungs.array, lesions, places)


def test_masks_are_where_the_scan_changed_and_nowhere_else(scan: PhantomSubject) -> None:
    before = scan.volume.array.astype(float)
    lungs = scan.lungs.lungs
    dark, masks = painted(scan, Disease("COPD", emphysema=0.15, emphysema_bias=Bias(upper=4.0), air_trapping=0.1))
    holes, trapping = masks["emphysema"] > 0, masks["air_trapping"] > 0
    assert 0.08 < holes.sum() / lungs.sum() < 0.22
    assert np.median(dark[holes]) < -950
    assert np.median((dark - before)[holes]) < -60
    assert -85 < np.median((dark - before)[trapping]) < -35
    hazy, glass_masks = painted(scan, Disease("COVID-19", ground_glass=0.2, consolidation=0.04))
    glass, dense = glass_masks["ground_glass"] > 0, glass_masks["consolidation"] > 0
    assert 150 < np.median((hazy - before)[glass]) < 400
    assert np.median(hazy[dense]) > -100
    for image, found in ((dark, masks), (hazy, glass_masks)):
        together = sum(m.astype(int) for m in found.values())
        assert np.asarray(together).max() == 1
        assert not (np.asarray(together) > 0)[~lungs].any()
        assert np.array_equal(image[~lungs], before[~lungs])
        free = lungs & (together == 0)
        assert abs(np.median((image - before)[free])) < 3
    # Vessels stay in ground glass, and are no holes.
    vessels = (before > -300) & lungs
    assert np.abs((dark - before)[vessels]).max() < 30
    assert not (holes & vessels).any()


def test_noise_of_the_scan_stays(scan: PhantomSubject) -> None:
    dark, masks = painted(scan, Disease("COPD", air_trapping=0.3))
    inside = masks["air_trapping"] > 0

    def grain(image: np.ndarray) -> float:
        steps = np.diff(image.astype(float), axis=2)[inside[:, :, 1:] & inside[:, :, :-1]]
        return float(np.median(np.abs(steps - np.median(steps))))

    assert 0.9 < grain(dark) / grain(scan.volume.array) < 1.1


def test_disease_of_the_patient_stays_out_of_the_masks(scan: PhantomSubject) -> None:
    own = scan.volume.array.copy()
    z, y, x = (int(v.mean()) for v in np.nonzero(scan.lungs.array == Mask.RIGHT))
    solid = (slice(z - 5, z + 5), slice(y - 6, y + 6), slice(x - 6, x + 6))
    own[solid] = 30
    ill = replace(scan, volume=Volume(own, scan.volume.frame))
    hu, masks = painted(ill, Disease("both", emphysema=0.3, ground_glass=0.6, ground_glass_bias=Bias(left=-3.0)))
    middle = tuple(slice(s.start + 2, s.stop - 2) for s in solid)
    assert not any(mask[middle].any() for mask in masks.values())
    assert np.abs(hu[middle] - 30).max() < 5


def test_places_follow_from_the_mask_alone(scan: PhantomSubject) -> None:
    shifted = replace(scan.volume.frame, origin=(400.0, -300.0, 50.0))
    places, box = lung_places(scan.lungs.array, shifted)
    inside = places.inside
    assert inside.sum() * 4.5**3 == pytest.approx(scan.lungs.lungs.sum() * 27.0, rel=0.06)
    assert places.height[inside].min() < 0.1
    assert places.height[inside].max() > 0.9
    assert set(np.unique(places.lobes[inside])) == {0, 1, 2, 3, 4}
    right = places.left[inside] < 0
    assert right.mean() == pytest.approx((scan.lungs.array == Mask.RIGHT).sum() / scan.lungs.lungs.sum(), abs=0.05)
    # The mediastinal surface is not the costal pleura.
    assert places.costal[inside].max() > places.depth[inside].max()
    columns = np.flatnonzero(scan.lungs.lungs.any(axis=(0, 1)))
    assert box[1].start <= columns[0]
    assert box[1].stop > columns[-1]
    with pytest.raises(UserError, match="no lungs"):
        lung_places(np.zeros_like(scan.lungs.array), shifted)


def test_warps_are_small_and_keep_the_frame(scan: PhantomSubject) -> None:
    volume = Volume(scan.volume.array, replace(scan.volume.frame, direction=np.eye(3)))
    warped = warp_scan(volume, scan.lungs, None, np.random.default_rng(0))
    assert warped.frame is volume.frame
    both = (warped.lungs > 0) & scan.lungs.lungs
    dice = 2 * both.sum() / ((warped.lungs > 0).sum() + scan.lungs.lungs.sum())
    assert 0.85 < dice < 0.995
    assert set(np.unique(warped.lungs)) == {0, 1, 2}
    # What is lung in the warped mask is lung in the warped scan.
    assert (warped.hu[warped.lungs > 0] < -500).mean() > 0.85
    frame = Frame((60, 80, 100), (0.7, 0.7, 5.0), (1.0, 2.0, 3.0))
    coarse = output_frame(frame, 1.5)
    assert coarse.spacing == (1.5, 1.5, 5.0)
    assert coarse.origin == frame.origin
    assert coarse.shape == (60, 37, 47)
    assert output_frame(frame, 0.5) is frame


def test_a_drawing_depends_on_seed_name_and_number_alone(scan: PhantomSubject) -> None:
    def drawn(name: str, number: int, seed: int) -> np.ndarray:
        return draw_onto(scan.volume, scan.lungs, name, number, seed, SETTINGS).image

    first = drawn("a", 0, 1)
    assert np.array_equal(first, drawn("a", 0, 1))
    for other in (("b", 0, 1), ("a", 1, 2)):
        assert not np.array_equal(first, drawn(*other))


def test_a_drawing_is_scanned_twice_on_one_day(table: Path, scan: PhantomSubject, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--interval 0"):
        phantom(tmp_path / "c", onto=table, per_scan=1, visits=2)
    made = phantom(tmp_path / "c", onto=table, per_scan=1, seed=3, progress=False, visits=2, interval=0.0,
                   diseases="covid")  # fmt: skip
    rows = pd.read_csv(made)
    assert list(rows["subject_id"]) == ["patient-01-v1", "patient-01-v2"]
    assert rows[["person", "visit", "years"]].to_numpy().tolist() == [["patient-01", 1, 0.0], ["patient-01", 2, 0.0]]
    first, second = (read_volume(made.parent / name).array for name in rows["image"])
    assert np.abs(first.astype(int) - second).mean() > 5  # another warp and other noise
    extents = rows["ground_glass_extent"].to_numpy()
    assert extents[1] == pytest.approx(extents[0], rel=0.25, abs=0.01)
    assert rows["ground_glass_distribution"].nunique() == 1
    assert rows["site"].nunique() == 1


def test_a_cohort_of_drawings(table: Path, scan: PhantomSubject, tmp_path: Path) -> None:
    account = RunAccount("phantom", {}, tmp_path / "c")
    phantom(tmp_path / "c", onto=table, per_scan=2, seed=3, progress=False, events=True, account=account)
    assert account.exit_status == 1
    assert [f.subject_id for f in account.failures] == ["broken"]
    rows = pd.read_csv(account.outputs[0])
    assert list(rows["subject_id"]) == ["patient-01", "patient-02"]
    assert set(rows["base"]) == {"patient"}
    assert set(rows["base_diagnosis"]) == {"normal"}
    assert {"FEV1pp", "site", "emphysema_upper_minus_lower", "ground_glass_distribution", "event"} <= set(rows.columns)
    for _, row in rows.iterrows():
        volume = read_volume(tmp_path / "c" / row["image"])
        assert volume.frame.same_grid(scan.volume.frame)
        lungs = read_mask(tmp_path / "c" / row["lungs"], volume)
        for name in MASKS:
            mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "c" / row[f"{name}_mask"])))
            assert row[f"{name}_extent"] == pytest.approx(mask.sum() / lungs.lungs.sum(), abs=2e-6)
            assert not mask[~lungs.lungs].any()


def test_a_half_real_cohort_goes_on_where_it_stopped(table: Path, scan: PhantomSubject, tmp_path: Path) -> None:
    base = [Base("patient", table.parent / "a.nii.gz", table.parent / "a-lungs.nii.gz", {"age": None})]
    whole, failures = write_onto(tmp_path / "whole", base, 2, progress=False)
    assert not failures
    write_onto(tmp_path / "parts", base, 1, progress=False)
    image = tmp_path / "parts" / "subjects" / "patient-01" / "image.nii.gz"
    stamp = image.stat().st_mtime_ns
    parts, _ = write_onto(tmp_path / "parts", base, 2, workers=2, progress=False)
    assert image.stat().st_mtime_ns == stamp
    assert parts.read_bytes() == whole.read_bytes()
    with pytest.raises(UserError, match="seed 0, not 1"):
        write_onto(tmp_path / "parts", base, 2, seed=1, progress=False)


def test_impossible_requests_are_refused(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    with pytest.raises(UserError, match="neither was given"):
        phantom(out)
    with pytest.raises(UserError, match="both were given"):
        phantom(out, 2, onto=table)
    with pytest.raises(UserError, match="NIfTI only"):
        phantom(out, onto=table, format="dicom")
    with pytest.raises(UserError, match="1 to 99"):
        phantom(out, onto=table, per_scan=0)
    with pytest.raises(UserError, match="A, B, C, or random"):
        phantom(out, onto=table, sites="D")
    assert not out.exists()
    with pytest.raises(UserError, match="None of the 1 scans"):
        write_onto(out, [Base("broken", table.parent / "b.nii.gz")], progress=False)
    assert json.loads((out / "phantom.json").read_text(encoding="utf-8"))["onto"]
