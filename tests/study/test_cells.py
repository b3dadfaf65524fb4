"""Label columns as typed by hand, and the notes that say how they were read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anatograph.errors import UserError
from anatograph.evaluation.targets import read_target
from anatograph.study.cohort import read_cohort
from anatograph.study.cohort.cells import clean

NAN = float("nan")


@pytest.mark.parametrize(
    ("cells", "values", "note"),
    [
        (["1", "2", "3", "4", "5"], [1, 2, 3, 4, 5], ""),
        (["1.5", "", "3"], [1.5, NAN, 3], ""),
        (["1", ".", "2", "?", "3"], [1, NAN, 2, NAN, 3], "2 cells ('.', '?') taken as missing"),
        (["1", "Unknown", "2", "NA ", "n.a."], [1, NAN, 2, NAN, NAN], "2 cells ('Unknown', 'n.a.')"),
        (["1", "-", "—", "2"], [1, NAN, NAN, 2], "2 cells ('-', '—')"),
        (["82%", "70 %", "65"], [82, 70, 65], "the unit '%' of 2 cells dropped"),
        (["061Y", "045Y"], [61, 45], "the unit 'Y' of 2 cells"),
        (["82,5", "70,1", "65"], [82.5, 70.1, 65], "commas in 2 cells taken as decimal points"),
        (["1,234.5", "2", "-3"], [1234.5, 2, -3], "commas in 1 cell taken as thousands separators"),
        (["1,234", "2,345", "7"], [NAN, NAN, 7], "2 cells ('1,234', '2,345') taken as missing, because a comma"),
        (["<5", "10", "20", "30", "40", "50"], [NAN, 10, 20, 30, 40, 50], "1 cell ('<5') beyond a limit"),
        (["PRISm", "0", "1", "2", "3", "4"], [NAN, 0, 1, 2, 3, 4], "1 cell ('PRISm') taken as missing, because the"),
        (["−5", "'7", "1e3"], [-5, 7, 1000], ""),
    ],
)  # fmt: skip
def test_numbers_as_they_are_written(cells: list[str], values: list[float], note: str) -> None:
    column, notes = clean(pd.Series(cells, name="x"))
    assert pd.api.types.is_numeric_dtype(column)
    np.testing.assert_array_equal(column.to_numpy(dtype=float), values)
    assert len(notes) == bool(note)
    assert note in "".join(notes)


@pytest.mark.parametrize(
    ("cells", "values", "note"),
    [
        (["f", "F", "F", "m"], ["F", "F", "F", "m"], "'f' (1) counted as 'F' (2)"),
        (["female", "F", "F", "m", "male"], ["F", "F", "F", "m", "m"], "'female' (1) counted as 'F' (2)"),
        (
            ["never ", " Never", "ever", "never"],
            ["never", "never", "ever", "never"],
            "'Never' (1) counted as 'never' (2)",
        ),
        (["T1", "T2", "unk", None], ["T1", "T2", None, None], "1 cell ('unk') taken as missing"),
        (["+", "-", "+"], ["+", "-", "+"], ""),
        (["1", "2", "well", "well"], ["1", "2", "well", "well"], ""),
        (["1 mg", "2 g", "3"], ["1 mg", "2 g", "3"], ""),
    ],
)
def test_categories_as_they_are_written(cells: list[str | None], values: list[str | None], note: str) -> None:
    column, notes = clean(pd.Series(cells, name="x", dtype="str"))
    assert [None if value != value else value for value in column] == values
    assert note in "".join(notes)
    assert len(notes) == bool(note)


def test_many_numbers_with_a_frequent_word_stay_numbers() -> None:
    cells = [f"{value / 7:.2f}" for value in range(40)] + ["refused"] * 20
    column, notes = clean(pd.Series(cells, name="fev1"))
    assert int(column.notna().sum()) == 40
    assert notes == ["fev1: 20 cells ('refused') taken as missing, because the other 40 hold numbers"]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([61.0, 55, 70, -9, 58], "-9 in 1 cell"),
        ([80.0, 95, 999, 70, 999], "999 in 2 cells"),
        ([0, 1, 2, 3, 9, 1, 2], "9 in 1 cell"),
        ([40, 55, 62, 99, 71], ""),
        ([0, 1, 2, 3, 4, 5], ""),
        ([-9.0, -7, -8, -5], ""),
    ],
)
def test_codes_for_missing_are_named_and_kept(values: list[float], code: str) -> None:
    column, notes = clean(pd.Series(values, name="age"))
    assert list(column) == values
    assert len(notes) == bool(code)
    assert code in "".join(notes)


def test_parquet_objects_are_read_by_the_same_rules(tmp_path: Path) -> None:
    table = pd.DataFrame({"subject_id": list("abcd"), "image": ["x.nii"] * 4, "gold": ["1", "2", ".", "3"]})
    table["site"] = pd.Categorical(["A", "a", "B", "A"])
    table["died"] = pd.Series([True, None, False, True], dtype=object)
    table.to_parquet(tmp_path / "c.parquet")
    cohort = read_cohort(tmp_path / "c.parquet")
    assert list(cohort.table["gold"])[:2] == [1.0, 2.0]
    assert cohort.notes.keys() == {"gold", "site"}
    assert list(cohort.table["site"]) == ["A", "A", "B", "A"]
    assert list(cohort.table["died"]) == [True, None, False, True]


@pytest.mark.parametrize("first", ["sep=,", '"sep=,"', "# made on Monday\n# by hand", "", "\n"])
def test_lines_before_the_header(tmp_path: Path, first: str) -> None:
    (tmp_path / "c.csv").write_text(f"{first}\nsubject_id,image,age\na,a.nii,3\nb,b.nii,4\n", encoding="utf-8")
    cohort = read_cohort(tmp_path / "c.csv")
    assert cohort.subject_ids == ["a", "b"]
    assert list(cohort.table["age"]) == [3, 4]


@pytest.mark.parametrize("header", ["FEV1,FEV1", "FEV1, FEV1", '"FEV1",age,FEV1 '])
def test_a_column_twice_is_refused(tmp_path: Path, header: str) -> None:
    cells = ",".join("1" for _ in header.split(","))
    (tmp_path / "c.csv").write_text(f"subject_id,image,{header}\na,a.nii,{cells}\n", encoding="utf-8")
    with pytest.raises(UserError, match="more than one column called FEV1"):
        read_cohort(tmp_path / "c.csv")


def test_a_target_carries_the_notes_of_its_column(tmp_path: Path) -> None:
    rows = "".join(f"s{k},s{k}.nii,{'?' if k == 3 else k * 1.5}\n" for k in range(12))
    (tmp_path / "c.csv").write_text(f"subject_id,image,fev1\n{rows}", encoding="utf-8")
    target = read_target(read_cohort(tmp_path / "c.csv").table.iloc[1:], "fev1")
    assert target.task == "regression"
    assert len(target.values) == 10
    assert target.notes[0] == "fev1: 1 cell ('?') taken as missing"


def test_none_among_words_is_missing_and_said(tmp_path: Path) -> None:
    """It may be a grade, so a note says that the class is gone."""
    (tmp_path / "c.csv").write_text("subject_id,image,grade,n\na,x,mild,1\nb,x,None,None\nc,x,none,3\nd,x,severe,4\n")
    cohort = read_cohort(tmp_path / "c.csv")
    assert cohort.table["grade"].isna().tolist() == [False, True, True, False]
    assert any("'none' in 2 cells taken as missing; if it is a class" in note for note in cohort.notes["grade"])
    assert cohort.table["n"].isna().sum() == 1
