"""Recipes on miniatures of NLST, LIDC-IDRI, CT-RATE, RICORD-1A, OSIC and the paper's COVID-19 CT data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.study.archives.build import build_cohort
from anatograph.study.cohort import read_cohort
from fixtures.chest import SeriesWriter

ARRAY = np.full((16, 8, 8), -900, dtype=np.int16)


def series(folder: Path, patient: str, uid: str, slices: int = 16, **tags: Any) -> Path:
    about = {"PatientID": patient, "StudyInstanceUID": f"{uid}.9", **tags}
    return SeriesWriter(ARRAY[:slices], tags=about, uid=uid).write(folder)


def table_of(path: Path) -> pd.DataFrame:
    cohort = read_cohort(path)
    assert cohort.missing_files() == []
    return cohort.table.set_index("subject_id")


def test_nlst(tmp_path: Path) -> None:
    root = tmp_path / "nlst"
    for year, study in (("2000", "1.2.840.2.9"), ("1999", "1.2.840.1.9")):
        uid = f"{study[:-2]}.5"
        series(root / "100012" / study / f"CT_{uid}", "100012", uid, StudyDate=f"{year}0102", PatientAge="061Y")
    series(root / "100012" / "1.2.840.1.9" / "CT_1.2.840.1.6", "100012", "1.2.840.1.6", 2, StudyDate="19990102")
    series(root / "100026" / "1.2.840.3.9" / "CT_1.2.840.3.5", "100026", "1.2.840.3.5", StudyDate="19990102")
    participants = tmp_path / "nlst_prsn.csv"
    participants.write_text(
        "pid,age,gender,cigsmok,pkyr,candx_days,canc_free_days,fup_days\n"
        "100012,62,1,1,55,412,.N,2400\n100026,57,2,0,31,.N,2301,2350\n100099,70,1,0,40,.N,2000,2100\n"
    )
    made = build_cohort("nlst", root, tmp_path / "c.csv", [participants])
    table = table_of(made.path)
    table.index = table.index.astype(str)
    assert list(table.index) == ["100012", "100026"]
    assert table.loc["100012", "image"] == "nlst/100012/1.2.840.1.9"  # the first screening
    row = table.loc["100012", ["age", "sex", "smoker", "pack_years", "lung_cancer", "cancer_days"]]
    assert row.tolist() == [62, "M", 1, 55, 1, 412]
    assert table.loc["100026", ["lung_cancer", "cancer_days"]].tolist() == [0, 2301]
    assert "1 patient of the table of labels without a scan" in " ".join(made.notes)
    participants.write_text(participants.read_text().replace(",2301,", ",0,"))  # free of cancer on day 0, not later
    again = table_of(build_cohort("nlst", root, tmp_path / "e.csv", [participants]).path)
    assert again.loc["100026", "cancer_days"] == 0
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no column pid"):
        build_cohort("nlst", root, tmp_path / "d.csv", [tmp_path / "wrong.csv"])


def lidc(root: Path, patients: int) -> Path:
    for k in range(patients):
        place = root / f"LIDC-IDRI-{k:04d}" / f"1.2.840.{k}.9" / f"CT_1.2.840.{k}.5"
        if k < 2:
            series(place, f"LIDC-IDRI-{k:04d}", f"1.2.840.{k}.5")
        else:
            place.mkdir(parents=True)
            for number in range(16):
                (place / f"{number}.dcm").touch()
    return root


def test_lidc_idri(tmp_path: Path) -> None:
    root = lidc(tmp_path / "lidc_idri", 2)
    sheet = tmp_path / "diagnosis.csv"
    sheet.write_text('TCIA Patient ID,"Diagnosis at the Patient Level\n0=Unknown\n1=benign"\nLIDC-IDRI-0001,3\n')
    table = table_of(build_cohort("lidc-idri", root, tmp_path / "c.csv", [sheet]).path)
    assert table.loc["LIDC-IDRI-0001", "malignant"] == 1
    assert np.isnan(table.loc["LIDC-IDRI-0000", "malignant"])
    assert "malignant" not in table_of(build_cohort("lidc-idri", root, tmp_path / "d.csv").path)


def chest_slices(offset: float = 0.0) -> NDArray[np.int16]:
    """A body of 40 HU with air in it, padding at the corner."""
    array = np.full((5, 20, 20), -1000.0)
    array[:, 4:16, 2:18] = 40
    array[:, 6:12, 4:8] = -860
    array += np.random.default_rng(0).normal(0, 8, array.shape) + offset
    return np.rint(array).astype(np.int16)


def ct_rate(root: Path, offset: float, intercept: float) -> Path:
    for name in ("train_1_a_1", "train_1_a_2", "train_1_b_1", "train_7_a_1"):
        place = root / "train_fixed" / name[: name.index("_", 6)] / name[:-2]
        place.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(chest_slices(offset)), str(place / f"{name}.nii.gz"))
    (root / "metadata").mkdir()
    rows = "".join(f"{n}.nii.gz,SIEMENS,F,041Y,{intercept},1\n" for n in ("train_1_a_1", "train_1_b_1", "train_7_a_1"))
    head = "VolumeName,Manufacturer,PatientSex,PatientAge,RescaleIntercept,RescaleSlope\n"
    (root / "metadata" / "train_metadata.csv").write_text(head + rows)
    (root / "multi_abnormality_labels").mkdir()
    (root / "multi_abnormality_labels" / "train_predicted_labels.csv").write_text(
        "VolumeName,Emphysema,Lung nodule\ntrain_1_a_1.nii.gz,1,0\n"
    )
    return root


def test_ct_rate_takes_hu_and_refuses_what_may_not_be(tmp_path: Path) -> None:
    made = build_cohort("ct-rate", ct_rate(tmp_path / "hu", 0, -1024), tmp_path / "c.csv")
    table = table_of(made.path)
    assert list(table.index) == ["train_1_a_1", "train_1_b_1", "train_7_a_1"]
    assert table["patient"].tolist() == ["train_1", "train_1", "train_7"]
    assert table.loc["train_1_a_1", ["sex", "age", "emphysema", "lung_nodule"]].tolist() == ["F", 41, 1, 0]
    assert "values of 3 volumes checked" in " ".join(made.notes)
    with pytest.raises(UserError, match="are stored values, not HU; download the fixed version"):
        build_cohort("ct-rate", ct_rate(tmp_path / "stored", 1024, -1024), tmp_path / "d.csv")
    with pytest.raises(UserError, match="are HU neither as they are nor rescaled"):
        build_cohort("ct-rate", ct_rate(tmp_path / "odd", 5000, -1024), tmp_path / "d.csv")
    both = ct_rate(tmp_path / "both", 0, 20)
    with pytest.raises(UserError, match="with and without rescaling"):
        build_cohort("ct-rate", both, tmp_path / "d.csv")
    (both / "metadata" / "train_metadata.csv").unlink()
    with pytest.raises(UserError, match="nothing says whether the values are HU"):
        build_cohort("ct-rate", both, tmp_path / "d.csv")
    assert not (tmp_path / "d.csv").exists()


def test_ricord(tmp_path: Path) -> None:
    root = tmp_path / "MIDRC-RICORD-1A"
    names = [f"MIDRC-RICORD-1A-419639-00008{k}" for k in (2, 2, 5)]
    for k, name in enumerate(names):
        series(root / name / f"0{k}-02-2002-CT CHEST-0461{k}" / "3.0-bone-269", name, f"1.2.840.{k}", PatientSex="M")
    project = {
        "labelGroups": [{"labels": [{"id": "L1", "name": "Typical Appearance"}, {"id": "L2", "name": "Atypical"},
                                    {"id": "L3", "name": "Infectious opacity"}]}],
        "datasets": [{"annotations": [
            *({"StudyInstanceUID": "1.2.840.0.9", "labelId": label} for label in ("L1", "L1", "L2", "L3")),
            {"StudyInstanceUID": "1.2.840.1.9", "labelId": "L1"}, {"StudyInstanceUID": "1.2.840.1.9", "labelId": "L2"},
        ]}],
    }  # fmt: skip
    (root / "MIDRC-RICORD-1a_annotations_labelgroup_all_2020-Dec-8.json").write_text(json.dumps(project))
    made = build_cohort("ricord-1a", root, tmp_path / "c.csv")
    table = table_of(made.path)
    assert list(table.index) == [names[0], f"{names[0]}_2", names[2]]
    assert table["appearance"].fillna("").tolist() == ["typical", "", ""]  # one majority, one tie, one unread
    assert table["readers"].tolist() == [3, 2, 0]
    assert "published archive has 120 studies of 110 patients" in " ".join(made.notes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no CT study"):
        build_cohort("ricord-1a", tmp_path / "empty", tmp_path / "d.csv")


def test_osic(tmp_path: Path) -> None:
    root = tmp_path / "osic"
    for patient in ("ID0001", "ID0002"):
        (root / "train" / patient).mkdir(parents=True)
        for number in range(16):
            (root / "train" / patient / f"{number + 1}.dcm").touch()
    weeks = (-4, 5, 57.1786, 109.3572)
    lines = [f"ID0001,{week},{3000 - 100 * (week - 5) / 52.1786:.2f},80.5,71,Male,Ex-smoker" for week in weeks]
    lines += ["ID0002,3,2100,60,66,Female,Never smoked", "ID0002,9,2000,58,66,Female,Never smoked"]
    lines += ["ID0003,0,2100,60,66,Female,Never smoked"]
    (root / "train.csv").write_text("\n".join(["Patient,Weeks,FVC,Percent,Age,Sex,SmokingStatus", *lines, ""]))
    made = build_cohort("osic", root, tmp_path / "c.csv")
    table = table_of(made.path)
    assert table.loc["ID0001", "FVC_slope"] == pytest.approx(-100, abs=0.1)
    assert table.loc["ID0001", "FVC"] == pytest.approx(3017.25, abs=0.1)  # week -4 is nearer to the CT than week 5
    assert np.isnan(table.loc["ID0002", "FVC_slope"])
    assert table.loc["ID0002", ["FVC", "sex", "smoking"]].tolist() == [2100, "F", "Never smoked"]
    assert "1 patient of train.csv with fewer than 16 images left out" in " ".join(made.notes)


def test_the_paper_s_composite(tmp_path: Path) -> None:
    root = tmp_path / "parts"
    lidc(root / "lidc", 46)
    for source, names in (
        ("covid-19-ct-seg", ("coronacases_001", "radiopaedia_4_85506_1")),
        ("radiopaedia", ("1",)),
        ("zhou", ("a",)),
    ):
        (root / source).mkdir()
        for name in names:
            grey = np.arange(256, dtype=np.int16).reshape(4, 8, 8) if name.startswith("radiopaedia") else ARRAY
            sitk.WriteImage(sitk.GetImageFromArray(grey), str(root / source / f"{name}.nii.gz"))
    (root / "covid-19-ct-seg" / "Infection_Mask").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(root / "covid-19-ct-seg" / "Infection_Mask" / "x.nii.gz"))
    made = build_cohort("covid-composite", root, tmp_path / "c.csv")
    table = table_of(made.path)
    assert table["covid"].value_counts().to_dict() == {0: 45, 1: 4}
    assert table["source"].value_counts()["covid-19-ct-seg"] == 2
    windowed = table.loc["covid-19-ct-seg_radiopaedia_4_85506_1", "image"]
    assert windowed == "c-hu/radiopaedia_4_85506_1.nii.gz"
    hu = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / windowed)))
    assert (hu.min(), hu.max()) == (-1250, 250)
    assert hu.ravel()[51] == -950
    assert "4 positives; the paper has 35" in " ".join(made.notes)
    again = table_of(build_cohort("covid-composite", root, tmp_path / "d.csv").path)
    assert list(again.index) == list(table.index)
    with pytest.raises(UserError, match="lacks the folders covid-19-ct-seg, radiopaedia, zhou, lidc"):
        build_cohort("covid-composite", tmp_path, tmp_path / "e.csv")
