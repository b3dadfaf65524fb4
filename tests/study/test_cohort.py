"""Cohort tables, good and bad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anatograph.errors import UserError
from anatograph.study.cohort import CohortRow, read_cohort


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_the_same_table_in_each_format(tmp_path: Path, kind: str) -> None:
    table = pd.DataFrame(
        {
            "subject_id": ["007", "NA", "1e5", "-x.y_"],
            "image": ["a.nii.gz", "dicom/b", "c d.nrrd", "/abs/d.mha"],
            "lungs": ["m.nii.gz", None, None, None],
            "age": [61.0, np.nan, 70.5, 44.0],
            "site": ["x", "y", None, "x"],
        }
    )
    path = tmp_path / f"cohort.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    cohort = read_cohort(path)
    assert cohort.rows == [
        CohortRow("007", tmp_path / "a.nii.gz", tmp_path / "m.nii.gz"),
        CohortRow("NA", tmp_path / "dicom" / "b", None),
        CohortRow("1e5", tmp_path / "c d.nrrd", None),
        CohortRow("-x.y_", Path("/abs/d.mha"), None),
    ]
    assert cohort.subject_ids == ["007", "NA", "1e5", "-x.y_"]
    assert list(cohort.table.columns) == list(table.columns)
    np.testing.assert_array_equal(cohort.table["age"], table["age"])
    assert cohort.table["site"].isna().tolist() == [False, False, True, False]
    assert cohort.table["lungs"].isna().tolist() == [False, True, True, True]


def test_numbers_as_ids_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "cohort.parquet"
    pd.DataFrame({"subject_id": [7, 12], "image": ["a", "b"]}).to_parquet(path)
    assert read_cohort(path).subject_ids == ["7", "12"]


def test_a_byte_order_mark_and_spaces_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "cohort.csv"
    path.write_bytes(b"\xef\xbb\xbfsubject_id, image\r\n a , b.nii \r\n")
    assert read_cohort(path).rows == [CohortRow("a", tmp_path / "b.nii")]


def test_all_faulty_rows_are_reported_together(tmp_path: Path) -> None:
    rows = ["good,a.nii", "a b,b.nii", "good,c.nii", "..,d.nii", ",e.nii", "f,", f"{'x' * 65},g.nii", "ü,h.nii"]
    path = write(tmp_path / "cohort.csv", "subject_id,image\n" + "\n".join(rows) + "\n")
    with pytest.raises(UserError) as refused:
        read_cohort(path)
    message = str(refused.value)
    for row, reason in [
        (2, "'a b'"),
        (3, "already that of row 1"),
        (4, "'..'"),
        (5, "subject_id is empty"),
        (6, "image is empty"),
        (7, "1 to 64"),
        (8, "'ü'"),
    ]:
        assert any(f"row {row}" in line and reason in line for line in message.splitlines()), (row, message)
    assert "row 1:" not in message
    assert "has 8 faults" in message


def test_missing_files_are_named_with_their_rows(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    text = "subject_id,image,lungs\nx,a.nii,m.nii\ny,b.nii,\n"
    cohort = read_cohort(write(tmp_path / "cohort.csv", text))
    first, second = cohort.missing_files()
    assert first.startswith("row 1 (x): lungs")
    assert second.startswith("row 2 (y): image")
    with pytest.raises(UserError, match=r"(?s)row 3.*already.*row 2 \(y\): image .*b\.nii does not exist"):
        read_cohort(write(tmp_path / "cohort.csv", text + "y,a.nii,\n"))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("c.csv", "id,image\na,b\n", "lacks the column subject_id; it has: id, image"),
        ("c.csv", "a,b\n", "subject_id and image"),
        ("c.csv", "", "cannot be read"),
        ("c.csv", "subject_id,image\n", "no rows"),
        ("c.csv", "subject_id;image\na;b\n", "semicolons"),
        ("c.csv", "subject_id,image\na,b,c,d\n", "cannot be read"),
        ("c.xlsx", "x", "CSV, TSV or Parquet"),
        ("c.parquet", "not parquet", "cannot be read as PARQUET"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, name: str, text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read_cohort(write(tmp_path / name, text))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_cohort(tmp_path / "none.csv")
    with pytest.raises(UserError, match="is a folder"):
        read_cohort(tmp_path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes("subject_id,image,name\na,b,Müller\n".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        read_cohort(path)
