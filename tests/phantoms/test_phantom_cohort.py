"""Cohorts on disk: files, table, resuming, DICOM."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk

from anatograph.errors import UserError
from anatograph.phantoms import PhantomSettings, make_subject, write_cohort
from anatograph.phantoms.cohort import Schedule
from anatograph.phantoms.disease.description import Disease
from anatograph.phantoms.disease.lesions import MASKS
from anatograph.phantoms.profile import SubjectProfile, sample_profile
from anatograph.phantoms.settings import diseases_of, settings_of
from anatograph.phantoms.visits import Course, at_visit
from anatograph.study.cohort import read_cohort

SMALL = PhantomSettings(spacing_mm=4.0)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("phantom") / "c", 2, seed=11, settings=SMALL, progress=False)


def test_table_names_files_that_hold_the_truth(cohort: Path) -> None:
    table = pd.read_csv(cohort)
    assert list(table["subject_id"]) == ["phantom-0001", "phantom-0002"]
    assert {"FEV1pp", "FEV1_FVC", "GOLD", "CLE", "paraseptal", "mMRC", "exacerbation"} <= set(table.columns)
    assert {"covid_severity", "diagnosis", "age", "sex", "site"} <= set(table.columns)
    for index, row in table.iterrows():
        subject = make_subject(11, int(str(index)), SMALL)
        image = sitk.ReadImage(str(cohort.parent / row["image"]))
        assert np.array_equal(sitk.GetArrayFromImage(image), subject.volume.array)
        assert np.allclose(image.GetOrigin(), subject.volume.frame.origin, atol=1e-3)
        lungs = sitk.GetArrayFromImage(sitk.ReadImage(str(cohort.parent / row["lungs"])))
        assert np.array_equal(lungs, subject.lungs.array)
        for name in MASKS:
            mask = sitk.GetArrayFromImage(sitk.ReadImage(str(cohort.parent / row[f"{name}_mask"])))
            assert row[f"{name}_extent"] == pytest.approx(np.count_nonzero(mask) / np.count_nonzero(lungs), abs=1e-6)


def test_the_names_of_findings_are_no_missing_values(cohort: Path) -> None:
    table = read_cohort(cohort).table
    for column in ("emphysema_distribution", "ground_glass_distribution", "dark_lobe"):
        assert table[column].notna().all()


def test_bytes_depend_on_neither_workers_nor_cohort_size(cohort: Path, tmp_path: Path) -> None:
    again = write_cohort(tmp_path / "c", 3, seed=11, settings=SMALL, workers=2, progress=False)
    here, there = digests(cohort.parent / "subjects"), digests(again.parent / "subjects")
    assert here == {name: digest for name, digest in there.items() if not name.startswith("phantom-0003")}


def test_an_interrupted_cohort_goes_on(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    write_cohort(out, 1, seed=11, settings=SMALL, progress=False)
    first = out / "subjects" / "phantom-0001" / "image.nii.gz"
    stamp = first.stat().st_mtime_ns
    (out / "subjects" / ".phantom-0002.part").mkdir()
    (out / "subjects" / ".phantom-0002.part" / "image.nii.gz").write_bytes(b"half")
    table = write_cohort(out, 2, seed=11, settings=SMALL, progress=False)
    assert first.stat().st_mtime_ns == stamp
    assert digests(out) == digests(cohort.parent)
    assert table.read_bytes() == cohort.read_bytes()


def test_foreign_folders_and_other_settings_are_refused(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        write_cohort(tmp_path, 1)
    with pytest.raises(UserError, match="seed 11, not 12"):
        write_cohort(cohort.parent, 2, seed=12, settings=SMALL)
    with pytest.raises(UserError, match=r"spacing_mm .*, not 5\.0"):
        write_cohort(cohort.parent, 2, seed=11, settings=PhantomSettings(spacing_mm=5.0))
    with pytest.raises(UserError, match="1 to 99999"):
        write_cohort(tmp_path / "none", 0)
    with pytest.raises(UserError, match="nifti or dicom"):
        write_cohort(tmp_path / "none", 1, format="nrrd")  # type: ignore[arg-type]


def test_diseases_can_be_chosen_and_nothing_else_about_a_subject_changes(tmp_path: Path) -> None:
    def drawn(diseases: tuple[str, ...] | None) -> list[SubjectProfile]:
        settings = PhantomSettings(diseases=diseases)
        return [sample_profile(np.random.default_rng(index), settings) for index in range(60)]

    all_diseases, covid, copd = drawn(None), drawn(("covid",)), drawn(("copd",))
    assert {p.disease.diagnosis for p in covid} == {"healthy", "COVID-19"}
    assert {p.disease.diagnosis for p in copd} == {"healthy", "COPD"}
    assert all(p.disease.emphysema == 0 == p.disease.paraseptal for p in covid)
    assert [p.disease.diagnosis == "healthy" for p in covid] == [p.disease.diagnosis == "healthy" for p in all_diseases]
    assert [(p.scanner, p.sex, p.breath) for p in covid] == [(p.scanner, p.sex, p.breath) for p in all_diseases]
    both = [(p, q) for p, q in zip(all_diseases, covid, strict=True) if p.disease.diagnosis == "COVID-19"]
    assert both
    assert all(p == q for p, q in both)
    assert diseases_of("covid,copd") is None
    with pytest.raises(UserError, match="copd, covid"):
        settings_of(diseases="flu")


def test_the_account_names_the_generator_and_refuses_another(cohort: Path, tmp_path: Path) -> None:
    account = json.loads((cohort.parent / "phantom.json").read_text(encoding="utf-8"))
    assert account["generator"] == 2
    old = tmp_path / "old"
    old.mkdir()
    (old / "phantom.json").write_text(json.dumps(account | {"generator": 1}))
    with pytest.raises(UserError, match="generator 1, not 2"):
        write_cohort(old, 1, seed=11, settings=SMALL, progress=False)


def test_dicom_holds_the_same_scan(cohort: Path, tmp_path: Path) -> None:
    table = write_cohort(tmp_path / "d", 1, seed=11, format="dicom", settings=SMALL, progress=False)
    folder = table.parent / pd.read_csv(table)["image"][0]
    reader = sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(folder))
    reader.SetFileNames(names)
    series = reader.Execute()
    nifti = sitk.ReadImage(str(cohort.parent / pd.read_csv(cohort)["image"][0]))
    assert np.array_equal(sitk.GetArrayFromImage(series), sitk.GetArrayFromImage(nifti))
    assert np.allclose(series.GetOrigin(), nifti.GetOrigin(), atol=1e-3)
    assert np.allclose(series.GetSpacing(), nifti.GetSpacing(), atol=1e-4)
    assert list(names) != sorted(names)
    one = pydicom.dcmread(names[3])
    assert (one.Modality, float(one.RescaleIntercept), float(one.RescaleSlope)) == ("CT", -1024.0, 1.0)
    assert one.pixel_array.min() >= 0
    hu = one.pixel_array.astype(int) - 1024
    assert np.array_equal(hu, sitk.GetArrayFromImage(nifti)[3])
    assert len({pydicom.dcmread(n, stop_before_pixels=True).SOPInstanceUID for n in names}) == len(names)
    assert len({pydicom.dcmread(n, stop_before_pixels=True).SeriesInstanceUID for n in names}) == 1
    again = write_cohort(tmp_path / "e", 1, seed=11, format="dicom", settings=SMALL, progress=False)
    assert digests(again.parent) == digests(table.parent)


def test_visits_share_anatomy_and_the_first_is_that_of_the_plain_cohort(cohort: Path, tmp_path: Path) -> None:
    table = write_cohort(tmp_path / "v", 1, seed=11, settings=SMALL, schedule=Schedule(2, 0.0), progress=False)
    rows = pd.read_csv(table)
    assert list(rows["subject_id"]) == ["phantom-0001-v1", "phantom-0001-v2"]
    assert list(rows["person"]) == ["phantom-0001"] * 2
    assert list(rows["visit"]) == [1, 2]
    images = [sitk.ReadImage(str(table.parent / name)) for name in rows["image"]]
    plain = sitk.ReadImage(str(cohort.parent / pd.read_csv(cohort)["image"][0]))
    first, second, alone = (sitk.GetArrayFromImage(image) for image in (*images, plain))
    assert np.array_equal(first, alone)
    # On one day only position and noise differ.
    assert images[0].GetOrigin() != images[1].GetOrigin()
    assert not np.array_equal(first, second)
    assert np.abs(first.astype(int) - second).mean() < 40
    assert rows["emphysema_extent"][0] == pytest.approx(rows["emphysema_extent"][1], abs=0.003)
    with pytest.raises(UserError, match="visits"):
        write_cohort(table.parent, 1, seed=11, settings=SMALL, schedule=Schedule(3, 0.0), progress=False)


def test_emphysema_grows_where_it_was_and_ground_glass_follows_its_course() -> None:
    settings = replace(SMALL, diseases=("copd",), diseased_share=1.0)
    index = next(i for i in range(20) if make_subject(1, i, settings).profile.disease.emphysema > 0.08)
    before, after = (make_subject(1, index, settings, visit, years) for visit, years in ((0, 0.0), (1, 5.0)))
    masks = [subject.diseases["emphysema"] > 0 for subject in (before, after)]
    assert masks[1].sum() > 1.05 * masks[0].sum()
    assert (masks[0] & masks[1]).sum() > 0.75 * masks[0].sum()
    assert after.profile.age == before.profile.age + 5
    course = Course(emphysema_per_year=0.1, opacities_per_year=0.5)
    profile = replace(before.profile, disease=Disease("COVID-19", ground_glass=0.4))
    later = at_visit(profile, course, 2.0, np.random.default_rng(0))
    assert later.disease.ground_glass == pytest.approx(0.4 * np.exp(-1.0))
