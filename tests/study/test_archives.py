"""Recipes on miniatures of the archives, laid out as the archives are, and what they do with a folder that is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from anatograph import cli
from anatograph.errors import UserError
from anatograph.study.archives.build import build_cohort
from anatograph.study.archives.marker import recipe_of
from anatograph.study.cohort import read_cohort


def mosmed(folder: Path, counts: dict[int, int]) -> Path:
    number = 0
    for grade, count in counts.items():
        (folder / "studies" / f"CT-{grade}").mkdir(parents=True)
        for _ in range(count):
            number += 1
            (folder / "studies" / f"CT-{grade}" / f"study_{number:04d}.nii.gz").touch()
    (folder / "masks").mkdir()
    (folder / "masks" / "study_0003_mask.nii.gz").touch()
    (folder / "README_EN.pdf").touch()
    return folder


def test_mosmeddata(tmp_path: Path) -> None:
    archive = mosmed(tmp_path / "COVID19_1110", {0: 2, 1: 3, 2: 1, 3: 1, 4: 1})
    made = build_cohort("mosmeddata", archive, tmp_path / "tables" / "mosmed.csv")
    cohort = read_cohort(made.path)
    assert cohort.missing_files() == []
    table = cohort.table.set_index("subject_id")
    assert table["covid_severity"].to_dict()["study_0008"] == 4
    assert table["covid_severity"].value_counts().to_dict() == {1: 3, 0: 2, 2: 1, 3: 1, 4: 1}
    assert table.loc["study_0001", "findings"] == 0
    assert table.loc["study_0003", "lesion_mask"].endswith("masks/study_0003_mask.nii.gz")
    assert (made.path.parent / table.loc["study_0003", "lesion_mask"]).is_file()
    assert table["lesion_mask"].notna().sum() == 1
    assert recipe_of(cohort.table).name == "mosmeddata"
    assert any("1,110 studies" in note for note in made.notes)
    # The folder above, and studies/ itself, are found too.
    for number, place in enumerate((tmp_path, archive / "studies")):
        assert build_cohort("mosmeddata", place, tmp_path / f"{number}.csv").subjects == 8
    with pytest.raises(UserError, match="already exists"):
        build_cohort("mosmeddata", archive, made.path)
    (archive / "studies" / "CT-2" / "study_0001.nii.gz").touch()
    with pytest.raises(UserError, match="study_0001 is in CT-0 and in CT-2"):
        build_cohort("mosmeddata", archive, tmp_path / "twice.csv")
    with pytest.raises(UserError, match="CT-0 to CT-4"):
        build_cohort("mosmeddata", tmp_path / "tables", tmp_path / "none.csv")


def dicom(file: Path, sex: str, age: str, number: int) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.StudyInstanceUID = "1.2.3", "1.2"
    data.Modality, data.PatientSex, data.PatientAge = "CT", sex, age
    data.Rows = data.Columns = 4
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 1, 1
    data.PhotometricInterpretation, data.PixelSpacing, data.SliceThickness = "MONOCHROME2", [1, 1], 1
    data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    data.RescaleSlope, data.RescaleIntercept, data.InstanceNumber = 1, 0, number
    data.PixelData = np.zeros((4, 4), dtype=np.int16).tobytes()
    pydicom.dcmwrite(file, data, enforce_file_format=True)


def covid_ct_md(root: Path, names: tuple[str, str, str]) -> Path:
    persons = ((names[0], "P001", "M", "061Y"), (names[0], "P002", "F", "043Y"), (names[1], "cap001", "M", "070Y"),
              (names[2], "normal001", "F", ""))  # fmt: skip
    for kind, person, sex, age in persons:
        (root / kind / person).mkdir(parents=True)
        for number in range(4):
            dicom(root / kind / person / f"98C1-ASSH_{number}.dcm", sex, age, number)
    (root / "Index.csv").write_text(
        "Label Index,Diagnosis,Relative Path,Folder/ID\n0,COVID-19,./COVID-19/,P001\n1,CAP,./CAP/,cap001\n"
    )
    slices = np.zeros((2, 6))  # as long as the longest scan
    slices[0, 1:4] = 1
    np.save(root / "Slice-level-labels.npy", slices)
    lobes = np.zeros((2, 6, 5))
    lobes[0, 1, 0] = lobes[0, 2, 3] = 1
    np.save(root / "Lobe-level-labels.npy", lobes)
    return root


@pytest.mark.parametrize(
    "names",
    [("COVID-19 Cases", "Cap Cases", "Normal Cases"), ("COVID-19 subjects", "CAP subjects", "Normal subjects")],
)
def test_covid_ct_md(tmp_path: Path, names: tuple[str, str, str]) -> None:
    archive = covid_ct_md(tmp_path / "archive", names)
    made = build_cohort("covid-ct-md", archive, tmp_path / "cohort.csv")
    cohort = read_cohort(made.path)
    assert cohort.missing_files() == []
    table = cohort.table.set_index("subject_id")
    assert table["diagnosis"].to_dict() == {
        "P001": "COVID-19",
        "P002": "COVID-19",
        "cap001": "CAP",
        "normal001": "Normal",
    }
    assert table["covid"].to_dict() == {"P001": 1, "P002": 1, "cap001": 0, "normal001": 0}
    assert table.loc["P001", "age"] == 61
    assert table["sex"].tolist() == ["M", "F", "M", "F"]
    assert np.isnan(table.loc["normal001", "age"])
    assert table.loc["P001", "infected_slices"] == 0.75
    assert table.loc["P001", "infected_lobes"] == 2
    assert table.loc["cap001", "infected_slices"] == 0
    assert np.isnan(table.loc["P002", "infected_slices"])
    assert recipe_of(cohort.table).name == "covid-ct-md"
    (archive / "Index.csv").write_text("something,else\n1,2\n")
    with pytest.raises(UserError, match="not the archive's index"):
        build_cohort("covid-ct-md", archive, tmp_path / "again.csv")
    with pytest.raises(UserError, match="not the folders COVID-19 Cases"):
        build_cohort("covid-ct-md", tmp_path, tmp_path / "none.csv")


def copdgene(folder: Path) -> tuple[Path, Path, Path, Path]:
    images = folder / "scans"
    images.mkdir(parents=True)
    for name in ("10005Q_INSP_STD_NJC_COPD", "10005Q_EXP_STD_NJC_COPD", "10005Q_INSP_B31f_NJC_COPD",
                 "10005Q_INSP_STD_NJC_COPD2", "10010J_INSP_STD_UIA_COPD", "99999Z_INSP_STD_UIA_COPD"):  # fmt: skip
        (images / f"{name}.nii.gz").touch()
    (images / "10032T" / "series").mkdir(parents=True)
    (images / "10032T" / "scan.nrrd").touch()
    rows = [
        "sid\tgender\tccenter\tAge_Enroll\tFEV1pp_utah\tFEV1_FVC_utah\tfinalGold\tExacerbation_Frequency\tMMRCDyspneaScor",
        "10005Q\t1\tNJC\t62.4\t48.2\t0.51\t3\t2\t4",
        "10010J\t2\tUIA\t55\t101.5\t0.78\t0\t0\t0",
        "10032T\t2\tUIA\t58\t72\t0.74\t-1\t0\t",
        "10099X\t1\tUIA\t60\t80\t0.7\t1\t0\t1",
    ]
    phenotypes = folder / "Final10000_Phase1.txt"
    phenotypes.write_text("\n".join(rows) + "\n")
    visual = folder / "COPDGene_CT_Visual.txt"
    visual.write_text("sid\tEmph_Severity\tEmph_Paraseptal\n10005Q\t4\t1\n10010J\t0\t0\n")
    later = folder / "P1P2_Flat.csv"
    later.write_text("sid,Exacerbation_Frequency_P2\n10005Q,1\n10010J,\n")
    return images, phenotypes, visual, later


def test_copdgene(tmp_path: Path) -> None:
    images, *files = copdgene(tmp_path)
    made = build_cohort("copdgene", images, tmp_path / "cohort.csv", files)
    cohort = read_cohort(made.path)
    assert cohort.missing_files() == []
    table = cohort.table.set_index("subject_id")
    assert list(table.index) == ["10005Q", "10010J", "10032T"]
    assert table.loc["10005Q", "image"] == "scans/10005Q_INSP_STD_NJC_COPD.nii.gz"
    assert table.loc["10032T", "image"] == "scans/10032T/scan.nrrd"
    sick = table.loc["10005Q"]
    assert (sick["FEV1pp"], sick["FEV1_FVC"], sick["GOLD"], sick["CLE"]) == (48.2, 0.51, 3, 4)
    assert (sick["paraseptal"], sick["AE_history"], sick["future_AE"], sick["mMRC"]) == (1, 1, 1, 4)
    assert (sick["sex"], sick["site"], sick["age"]) == ("M", "NJC", 62.4)
    assert np.isnan(table.loc["10032T", "GOLD"])  # PRISm
    assert np.isnan(table.loc["10010J", "future_AE"])
    assert recipe_of(cohort.table).name == "copdgene"
    said = " ".join(made.notes)
    assert "3 of 4 subjects of the phenotype file have a scan" in said
    assert "1 scan of subjects who are not in the phenotype file left out" in said

    one = build_cohort("copdgene", images, tmp_path / "exp.csv", files[:1], pattern="*_EXP_*")
    assert one.subjects == 1
    assert any("CLE: in none of the files" in note for note in one.notes)
    (images / "10010J_INSP_STD_UIA_COPD_v2.nii.gz").touch()
    with pytest.raises(UserError, match=r"several candidate scans.*10010J"):
        build_cohort("copdgene", images, tmp_path / "two.csv", files)
    with pytest.raises(UserError, match="--phenotypes FILE"):
        build_cohort("copdgene", images, tmp_path / "none.csv")
    (tmp_path / "wrong.csv").write_text("name,age\nx,3\n")
    with pytest.raises(UserError, match="no column sid"):
        build_cohort("copdgene", images, tmp_path / "none.csv", [tmp_path / "wrong.csv"])
    with pytest.raises(UserError, match="for copdgene"):
        build_cohort("mosmeddata", images, tmp_path / "none.csv", files)


def test_long_phenotype_files_give_the_first_visit(tmp_path: Path) -> None:
    images, *_ = copdgene(tmp_path)
    long = tmp_path / "long.csv"
    long.write_text(
        "sid,visitnum,FEV1pp_utah,CT_Visual_Emph_Severity_P1\n10010J,1,101.5,0\n10010J,2,95,\n10005Q,1,48.2,4\n"
    )
    table = read_cohort(build_cohort("copdgene", images, tmp_path / "c.csv", [long]).path).table
    assert table.set_index("subject_id")["FEV1pp"].to_dict() == {"10005Q": 48.2, "10010J": 101.5}
    assert table["CLE"].tolist() == [4, 0]


def test_marks_survive_what_users_do_with_tables_and_notice_changed_labels(tmp_path: Path) -> None:
    archive = mosmed(tmp_path / "a", {0: 3, 1: 3})
    table = read_cohort(build_cohort("mosmeddata", archive, tmp_path / "c.csv").path).table
    assert recipe_of(table.sample(frac=1.0, random_state=0).drop(columns="lesion_mask").assign(mine=1)).name
    assert recipe_of(table.iloc[:4]).name == "mosmeddata"
    changed = table.copy()
    changed.loc[0, "covid_severity"] = 2
    assert recipe_of(changed).name == ""
    assert "labels of 1 subjects" in recipe_of(changed).why_not
    mixed = table.copy()
    mixed["recipe"] = mixed["recipe"].astype(object)
    mixed.loc[0, "recipe"] = "copdgene:123"
    assert "not all subjects are of one recipe" in recipe_of(mixed).why_not
    assert recipe_of(pd.DataFrame({"subject_id": ["a"]})).name == ""


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = mosmed(tmp_path / "a", {0: 2, 1: 2})
    assert cli.main(["cohort", "mosmeddata", str(archive), str(tmp_path / "c.csv")]) == 0
    said = capsys.readouterr()
    assert "(4 subjects)" in said.out
    assert "CT-0: 2" in said.err
    assert (tmp_path / "c.run.json").is_file()
    assert cli.main(["cohort", "mosmeddata", str(archive), str(tmp_path / "c.csv")]) == 2
