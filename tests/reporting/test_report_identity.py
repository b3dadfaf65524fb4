"""No name, DICOM identifier, path or date reaches the page without --identities: planted where real ones occur."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from anatograph.anatomy.atlas import build_atlas
from anatograph.imaging.volume import Frame, Mask
from anatograph.reporting import report
from anatograph.reporting.redaction import Discretion, identifies, known_secrets
from anatograph.study.preprocess import preprocess

SPACING, SHAPE = 5.0, (36, 40, 60)
HEADER = {
    "0010|0010": "Plantedname^Zelda",
    "0010|0020": "plantedpatient",
    "0010|0030": "19410203",
    "0008|0020": "20190413",
    "0008|0050": "ACC778899",
    "0008|0080": "Plantedhospital",
    "0008|1030": "plantedstudy",
    "0008|103e": "plantedseries",
    "0020|000d": "1.2.826.0.1.3680043.2.1125.771",
    "0020|000e": "1.2.826.0.1.3680043.2.1125.772",
}
PLANTED = (
    "lantedname", "elda", "lantedpatient", "lantedtwin", "19410203", "1941-02-03", "20190413", "2019-04-13",
    "13.04.2019", "ACC778899", "lantedhospital", "lantedstudy", "lantedseries", "1.2.826.0.1", "lantedfolder",
    "Quux", "quux@example.org", "lantedclinic", "lantednote", "555-0199",
)  # fmt: skip


def chest(seed: int) -> tuple[sitk.Image, sitk.Image]:
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in SHAPE), indexing="ij")
    array = np.where(((x - 30) / 28) ** 2 + ((y - 20) / 18) ** 2 < 1, 40.0, -1000.0)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for label, middle in ((1, 17.0), (2, 43.0)):
        labels[((x - middle) / 9) ** 2 + ((y - 20) / 13) ** 2 + ((z - 18) / 15) ** 2 < 1] = label
    array[labels > 0] = -850
    array += np.random.default_rng(seed).normal(0, 10, SHAPE)
    images = []
    for values in (np.clip(np.rint(array), -1024, None).astype(np.int16), labels):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((SPACING,) * 3)
        images.append(image)
    return images[0], images[1]


def write_series(image: sitk.Image, folder: Path, **changed: str) -> None:
    """A DICOM series with the planted header, as a scanner would leave it."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    header = HEADER | changed
    for number in range(image.GetSize()[2]):
        piece = image[:, :, number]
        own = {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{header['0020|000e']}.{number + 1}",
            "0020|0013": str(number + 1),
            "0020|0032": f"0\\0\\{number * SPACING}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-1024",
            "0028|1053": "1",
            "0018|0050": str(SPACING),
        }
        for tag, value in (header | own).items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{header['0020|000e'][-3:]}-{number}.dcm"))
        writer.Execute(piece)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven subjects: two as DICOM, two that fail with revealing messages, one named by a date, two ordinary ones."""
    folder = tmp_path_factory.mktemp("Plantedfolder_Quux")
    rows = []

    def add(name: str, image: str, lungs: str = "lungs.nii.gz") -> None:
        k = len(rows)
        rows.append(
            {
                "subject_id": name,
                "image": image,
                "lungs": lungs,
                "density": 0.1 * k,
                "sick": "yes" if k % 2 else "no",
                "patient_name": f"Quux {k}",
                "birthDate": "1941-02-03",
                "seen": "13.04.2019",
                "acquired": 20190413,
                "mail": "quux@example.org",
                "remark": f"plantednote {k}",
                "where": "/srv/plantedclinic/x",
                "call": f"555-0199{k}" if k else "555-0199",
                "key": "1.2.826.0.1.3680043.2.1125.773",
            }
        )

    scan, mask = chest(0)
    sitk.WriteImage(mask, str(folder / "lungs.nii.gz"))
    write_series(scan, folder / "plantedpatient")
    add("a1", "plantedpatient")
    write_series(chest(1)[0], folder / "with spaces" / "Quux Zelda 19410203")
    add("a2", "with spaces/Quux Zelda 19410203")
    write_series(scan, folder / "twins")
    twin = {"0010|0020": "plantedtwin", "0020|000e": "1.2.826.0.1.3680043.2.1125.774"}
    write_series(scan, folder / "twins", **twin)
    add("a3", "twins")
    (folder / "plantedclinic").mkdir()
    (folder / "plantedclinic" / "Quux.nii.gz").write_bytes(b"no scan")
    add("a4", "plantedclinic/Quux.nii.gz")
    for k, name in enumerate(("scan-20190413", "a6", "a7")):
        sitk.WriteImage(chest(k + 2)[0], str(folder / f"plantedclinic_{k}.nii.gz"))
        add(name, f"plantedclinic_{k}.nii.gz")
    pd.DataFrame(rows).to_csv(folder / "cohort.csv", index=False)
    labels = sitk.GetArrayFromImage(mask)
    atlas = build_atlas(Mask(labels, Frame(SHAPE, (SPACING,) * 3, (0.0, 0.0, 0.0))), patch_size=16, step=40)
    account = preprocess(folder / "cohort.csv", folder / "study", atlas, "given", progress=False)
    assert {failure.subject_id for failure in account.failures} == {"a3", "a4"}
    return folder / "study"


def test_nothing_that_was_planted_is_on_the_page(study: Path, tmp_path: Path) -> None:
    page = report(study, tmp_path / "page.html", subjects=["a1", "scan-20190413"]).read_text(encoding="utf-8")
    text = page[: page.index('id="packed-niivue"')]
    found = [word for word in (*PLANTED, "tmp/pytest", str(tmp_path)) if word.lower() in text.lower()]
    assert found == []
    assert "subject-5" in text  # scan-20190413, by its place
    assert "CT scans of 2 patients ([withheld])" in text
    assert "a message is replaced by [withheld]; --identities shows it." in text
    assert "One subject is called by its place in the study" in text
    for column in ("density", "sick"):
        assert f'<th scope="row">{column}</th>' in text
    for column in ("patient_name", "birthDate", "seen", "acquired", "mail", "remark", "where", "call", "key"):
        assert f"{column} (" in text  # the page says that it is withheld, and why


def test_what_is_asked_for_is_shown(study: Path, tmp_path: Path) -> None:
    page = report(study, tmp_path / "page.html", identities=True).read_text(encoding="utf-8")
    assert "scan-20190413" in page
    assert "plantedclinic/Quux.nii.gz" in page
    assert '<th scope="row">patient_name</th>' in page


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/data/Doe John/ct.nii.gz: there is no such file.", "[withheld]: there is no such file."),
        ("smith: there is no such folder.", "[withheld]: there is no such folder."),
        ("scans of 2 patients (ab, cd); give each", "scans of 2 patients ([withheld]); give each"),
        ('series "Thorax DOE" (12 images) was chosen', "series [withheld] (12 images) was chosen"),
        ("slices of 2019-04-13 and 20190413 differ", "slices of [withheld] and [withheld] differ"),
        ("UID 1.2.840.113619.2.55 is there twice", "[withheld] is there twice"),
        ("the Dice of the mapped atlas is 0.61, below 0.8", "the Dice of the mapped atlas is 0.61, below 0.8"),
        ("12 landmarks lie outside the scan", "12 landmarks lie outside the scan"),
        ("image 512×512×3 has 5 % of air at -1024 HU", "image 512×512×3 has 5 % of air at -1024 HU"),
        ("GOLD is taken as 5 classes", "GOLD is taken as 5 classes"),
        ("Check that the scan covers the chest", "Check that the scan covers the chest"),
        ("1 scan that review.csv excludes left out (COPD007)", "1 scan that review.csv excludes left out (COPD007)"),
        ("1,204 scans left out by --exclude (COPD007)", "1,204 scans left out by --exclude (COPD007)"),
        ("lungs of 16,032 ml, Doe.csv excludes 1,234,567,890", "lungs of 16,032 ml, [withheld] excludes [withheld]"),
        ("Smith is the reader; Remove him", "[withheld] is the reader; Remove him"),
        ("2 scans left out (COPD007, 20191231)", "2 scans left out (COPD007, subject-2)"),
    ],
)  # fmt: skip
def test_sentences_lose_what_identifies(text: str, wanted: str) -> None:
    secrets = known_secrets(["/data/Doe John/ct.nii.gz"])
    known = Discretion(secrets=secrets, words=frozenset({"GOLD"}), subject_ids=("COPD007", "20191231"))
    assert known.sentence(text) == wanted
    assert known.reason(f"check: {text}") == f"check: {wanted}"
    assert Discretion(identities=True, secrets=secrets).sentence(text) == text


@pytest.mark.parametrize(
    ("name", "values", "shown"),
    [
        ("age", [61, 72, 55, 80], True),
        ("FEV1pp", [61.5, 72.25, 55.0, 80.1], True),
        ("GOLD", [0, 1, 2, 4], True),
        ("sex", ["f", "m", "f", "m"], True),
        ("survival_time", [1.5, 2.0, 3.2, 8.1], True),
        ("pack_years", [2010, 30, 12, 0], True),
        ("covered", [True, False, True, True], True),
        ("PatientID", [1, 2, 3, 4], False),
        ("patient_name", ["a", "a", "b", "b"], False),
        ("StudyDate", [43831, 43832, 43833, 43834], False),
        ("day", [20200131, 20200201, 20200301, 20211224], False),
        ("when", ["3 Mar 2020", None, "3 Mar 2020", None], False),
        ("number", [10000001, 10000002, 10000003, 10000004], False),
        ("who", ["ann", "bob", "cat", "dan"], False),
        ("birth_year", [1950, 1951, 1952, 1953], False),
        ("site", ["Oslo", "Rome", "Graz", "Lyon"], True),
        ("scanner_name", ["a", "b", "c", "d"], True),
        ("site", ["Oslo 3.4.2020", "Rome", "Graz", "Lyon"], False),
        ("ManufacturerModelName", ["a", "b", "c", "d"], True),
        ("ReferringPhysicianName", ["a", "a", "b", "b"], False),
    ],
)
def test_kinds_of_columns(name: str, values: list[object], shown: bool) -> None:
    table = pd.DataFrame({"subject_id": list("abcd"), "image": "x.nii.gz", name: values})
    columns, withheld = Discretion().columns(table)
    assert columns == ([name] if shown else [])
    assert list(withheld) == ([] if shown else [name])
    assert Discretion(identities=True).columns(table)[0] == [name]


def test_names_that_identify_are_replaced() -> None:
    assert not any(identifies(name) for name in ("p01", "phantom-0001", "COPD_12345", "site3.007", "1042"))
    assert all(identifies(name) for name in ("20190413", "x-2019-04-13", "1.2.840.10008.1", "DOE^JOHN"))
    subjects = Discretion(subject_ids=("p1", "20190413", "p3"))
    assert [subjects.subject(name) for name in subjects.subject_ids] == ["p1", "subject-2", "p3"]
    assert subjects.renamed == 1
