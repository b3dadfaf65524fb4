"""Levels of scans: the rules, wrong masks and missing lung, the table, the reader's verdicts, and the page."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from anatograph.embedding.review import without_left_out
from anatograph.embedding.table import Embeddings
from anatograph.errors import UserError
from anatograph.study.quality.gallery import judged, qc, review_data
from anatograph.study.quality.levels import RULES, Concern, judge, separate, worst
from anatograph.study.quality.selection import read_reviews, select, usable
from anatograph.study.quality.table import read_levels, same_scans, to_look_at, write_quality
from anatograph.study.store import Study
from fixtures.small import Small


@pytest.mark.parametrize(
    ("figures", "method", "level"),
    [
        ({"lungs_volume_ml": 5000.0, "lungs_mean_hu": -820.0}, "threshold", "ok"),
        ({"lungs_volume_ml": 16000.0}, "threshold", "reject"),
        ({"lungs_width_mm": 205.0}, "threshold", "check"),
        ({"lungs_width_mm": 232.0}, "threshold", "ok"),
        ({"scan_mediastinum_hu": 150.0}, "threshold", "note"),
        ({"scan_coarsest_mm": 8.0}, "threshold", "note"),
        ({"lungs_truncated_base": True}, "threshold", "check"),
        ({"lungs_smaller_over_larger": 0.02}, "threshold", "check"),
        ({"lungs_upper_smaller_over_larger": 0.1}, "threshold", "check"),
        ({"lungs_dense_fraction": 0.11}, "threshold", "ok"),
        ({"lungs_dense_fraction": 0.11}, "given", "check"),
        ({"lungs_dense_fraction": 0.27}, "given", "reject"),
        ({"lungs_threshold_dice": 0.88}, "given", "check"),
        ({"lungs_gap_right": float("nan")}, "threshold", "ok"),
        ({"scan_spine_behind": -0.3}, "threshold", "reject"),
        ({"scan_laterality": -0.2}, "threshold", "check"),
        ({"lungs_middle_smaller_over_larger": 0.2}, "threshold", "check"),
        ({"lungs_lower_smaller_over_larger": 0.0}, "threshold", "ok"),
        ({"registration_dice": 0.4, "registration_poor": True}, "threshold", "reject"),
        ({"lungs_mean_hu": -200.0}, "threshold", "reject"),
    ],
)  # fmt: skip
def test_the_level_follows_from_the_figures(figures: dict[str, float], method: str, level: str) -> None:
    assert worst([concern.level for concern in judge(figures, method)]) == level


def test_the_gravest_rule_of_a_figure_counts_and_notes_of_the_reader_count_too() -> None:
    concerns = judge(
        {"lungs_volume_ml": 300.0}, "threshold", ("a contrast agent was given (x)", "3 slices are missing")
    )
    assert [concern.level for concern in concerns] == ["reject", "check", "note"]
    assert concerns[0].reason == "lungs of 300 ml in all, too little for a chest"
    assert {rule.level for rule in RULES} == {"note", "check", "reject"}


@pytest.fixture
def study(small: Small, tmp_path: Path) -> Study:
    """A copy of a small study whose subjects may be changed."""
    shutil.copytree(small.study, tmp_path / "study")
    (tmp_path / "study" / "quality.csv").unlink(missing_ok=True)
    return Study.open(tmp_path / "study")


def change(study: Study, name: str, **values: object) -> None:
    file = study.path / "subjects" / name / "subject.json"
    about = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**about, **values}), encoding="utf-8")


def grade(study: Study, name: str, *concerns: Concern) -> None:
    change(study, name, concerns=[{"level": one.level, "reason": one.reason} for one in concerns])


def test_the_table_lists_every_scan_with_its_figures_the_worst_first(study: Study) -> None:
    names = study.subject_ids
    for name in names:
        grade(study, name)
    grade(study, names[-1], Concern("reject", "no lung"), Concern("note", "thick"))
    grade(study, names[1], Concern("check", "odd"))
    with write_quality(study).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["subject_id"] for row in rows][:2] == [names[-1], names[1]]
    assert [row["level"] for row in rows] == ["reject", "check"] + ["ok"] * (len(names) - 2)
    assert rows[0]["reasons"] == "reject: no lung; note: thick"
    assert {"lungs_volume_ml", "registration_dice", "landmarks", "lungs_from"} <= rows[0].keys()
    assert float(rows[0]["lungs_volume_ml"]) > 0
    assert read_levels(study.path)[names[1]] == ("check", "check: odd")
    (study.path / "quality.csv").rename(study.path / "kept.csv")
    assert to_look_at(study.path) == []
    (study.path / "kept.csv").rename(study.path / "quality.csv")
    assert to_look_at(study.path) == [
        f"1 scan rejected: {names[-1]} (no lung)", f"1 scan to check: {names[1]} (odd)"
    ]  # fmt: skip


def test_a_reason_may_hold_a_semicolon(study: Study) -> None:
    name = study.subject_ids[0]
    for other in study.subject_ids:
        grade(study, other)
    grade(study, name, Concern("check", "stretched: by 2; turned by 40°"), Concern("note", "thick"))
    write_quality(study)
    assert to_look_at(study.path) == [f"1 scan to check: {name} (stretched: by 2; turned by 40°)"]
    level, reasons = judged(study.subject(name), read_levels(study.path))
    assert (level, reasons) == ("check", ["check: stretched: by 2; turned by 40°", "note: thick"])
    assert separate("") == []
    grade(study, name)
    write_quality(study)
    assert to_look_at(study.path) == [f"{len(study)} scans in the study, none rejected or to check"]


def test_one_scan_under_two_identifiers_is_named(study: Study) -> None:
    first, second = study.subject_ids[:2]
    for name in study.subject_ids:
        grade(study, name)
        about = study.subject(name).about["source"]
        change(study, name, source={**about, "voxels": "same" if name in (first, second) else name})
    write_quality(study)
    assert same_scans(study.path) == {
        first: f"check: the voxels are those of {second}",
        second: f"check: the voxels are those of {first}",
    }


def test_rejected_and_excluded_scans_are_left_out_and_counted(study: Study) -> None:
    first, second, third = study.subject_ids[:3]
    for name in study.subject_ids:
        grade(study, name)
    grade(study, first, Concern("reject", "no lung"))
    grade(study, second, Concern("reject", "no lung"))
    for written in (False, True):  # without a table the subjects themselves are asked
        if written:
            write_quality(study)
        (study.path / "review.csv").unlink(missing_ok=True)
        assert set(select(study).rejected) == {first, second}
        (study.path / "review.csv").write_text(
            f'subject_id,verdict,comment\n{first},Keep,looks right\n{third},exclude,"moved, much"\n{second},,why?\n',
            encoding="utf-8",
        )
        selection = select(study)
        assert set(selection.rejected) == {second}
        assert selection.excluded == {third: "moved, much"}
        assert set(select(study, include_flagged=True).left_out) == {third}
        limited, _ = usable(study)
        assert limited.subject_ids == [name for name in study.subject_ids if name not in (second, third)]
        assert second not in limited
        assert "1 scan that quality control rejects left out" in selection.notes[0]
        assert "1 scan that review.csv excludes left out" in selection.notes[1]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("subject_id,comment\np00,x\n", "lacks the columns"),
        ("subject_id,verdict\np00,maybe\n", "'maybe' must be keep, exclude or empty"),
        ("subject_id,verdict\n../x,keep\n", "must be 1 to 64"),
        (
            "subject_id,verdict\np00,keep\np00,exclude\n",
            "has 1 fault; correct these rows:\n  row 2: p00 is listed twice",
        ),
        ("subject_id,verdict\np00,\xff\n", "cannot be read"),
    ],
)
def test_verdicts_that_cannot_be_obeyed_are_refused(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "review.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=re.escape(wrong)):
        read_reviews(tmp_path)


def test_a_comment_alone_is_kept_and_decides_nothing(study: Study) -> None:
    first, second = study.subject_ids[:2]
    for name in study.subject_ids:
        grade(study, name, *([Concern("reject", "no lung")] if name == second else []))
    text = f"subject_id,verdict,comment\n{first},,look again\n{second},,sure?\n{study.subject_ids[2]},,\n"
    (study.path / "review.csv").write_text(text, encoding="utf-8")
    reviews = read_reviews(study.path)
    assert {name: (one.verdict, one.comment) for name, one in reviews.items()} == {
        first: (None, "look again"),
        second: (None, "sure?"),
    }
    assert select(study).left_out == (second,)  # rejected by quality control as if there were no comment
    assert review_data(study.path)["reviews"][first] == {"verdict": "", "comment": "look again"}


def test_a_study_with_no_usable_scan_says_why(study: Study) -> None:
    for name in study.subject_ids:
        grade(study, name, Concern("reject", "no lung"))
    with pytest.raises(UserError, match=r"No scan of the study .* --include-flagged"):
        usable(study)


def test_embeddings_obey_verdicts_that_came_later(study: Study, tmp_path: Path) -> None:
    ids = study.subject_ids
    for name in ids:
        grade(study, name)
    table = tmp_path / "e.parquet"
    about = {"pooling": {"rule": "mean", "parts": ["all"], "learnt_per_part": 1}}
    embeddings = Embeddings(ids, np.eye(len(ids)), table, about)
    assert without_left_out(embeddings)[0] is embeddings
    (tmp_path / "e.run.json").write_text(json.dumps({"settings": {"study": str(study.path)}}), encoding="utf-8")
    (study.path / "review.csv").write_text(f"subject_id,verdict\n{ids[0]},exclude\n", encoding="utf-8")
    kept, notes = without_left_out(embeddings)
    assert kept.subject_ids == ids[1:]
    np.testing.assert_array_equal(kept.features, np.eye(len(ids))[1:])
    assert kept.about == about  # what the features are does not depend on who is left out
    assert notes[0].startswith("1 subject that the study")


def test_the_page_holds_every_scan_offline(study: Study, tmp_path: Path) -> None:
    names = study.subject_ids
    for name in names:
        grade(study, name)
    grade(study, names[2], Concern("check", "</script><b>odd</b>"))
    (study.path / "review.csv").write_text(f"subject_id,verdict,comment\n{names[0]},keep,fine\n", encoding="utf-8")
    page = qc(study.path, tmp_path / "pages" / "qc.html").read_text(encoding="utf-8")
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert data["scans"][0]["id"] == names[2]
    assert data["scans"][0]["reasons"] == ["check: </script><b>odd</b>"]
    assert {scan["id"] for scan in data["scans"]} == set(names)
    assert all(scan["thumb"].startswith("data:image/webp;base64,") for scan in data["scans"])
    assert (tmp_path / "pages" / data["scans"][0]["picture"]).resolve().is_file()
    assert data["reviews"] == {names[0]: {"verdict": "keep", "comment": "fine"}}
    assert not re.search(r"(src|href)=[\"']?https?:", page)
    with pytest.raises(UserError, match=r"ends in \.html"):
        qc(study.path, tmp_path / "qc.txt")
