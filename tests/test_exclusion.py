"""Scans that are left out: by --exclude, by the reader, or as no cohort table lists them any more."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import anatograph
from anatograph.embedding.table import read_embeddings
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.learning.training.run_folder import begin_run, check_run, saved_exclusions
from anatograph.learning.training.settings import PretrainSettings
from anatograph.study.cohort import read_cohort
from anatograph.study.cohort.origin import record_table
from anatograph.study.quality.selection import select, usable
from anatograph.study.store import Study
from fixtures.report_parts import build
from fixtures.small import Small


@dataclass(frozen=True)
class Copy:
    """A copy of the small study with a cohort table of its own, both of which may be changed."""

    study: Study
    table: Path

    def remove(self, *names: str) -> None:
        """Take rows out of the table."""
        with self.table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        with self.table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(row for row in rows if row[0] not in names)

    def review(self, text: str) -> None:
        (self.study.path / "review.csv").write_text(f"subject_id,verdict,comment\n{text}\n", encoding="utf-8")


@pytest.fixture
def copy(small: Small, tmp_path: Path) -> Copy:
    shutil.copytree(small.study, tmp_path / "study")
    small.table().to_csv(tmp_path / "cohort.csv", index=False)
    about = json.loads((tmp_path / "study" / "study.json").read_text(encoding="utf-8"))
    assert about["tables"] == [str(small.cohort.resolve())]
    (tmp_path / "study" / "study.json").write_text(json.dumps({**about, "tables": []}), encoding="utf-8")
    study = Study.open(tmp_path / "study")
    record_table(study, tmp_path / "cohort.csv")
    return Copy(study, tmp_path / "cohort.csv")


def settings_of(folder: Path, command: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RunAccount(command, {}, folder).path.read_text(encoding="utf-8"))["settings"]
    return found


def test_every_scan_that_is_left_out_counts_once(copy: Copy) -> None:
    copy.review("p00,exclude,moved")
    copy.remove("p00", "p01", "p02")
    selection = select(copy.study, exclude=["p00", "p01", "p03", "p01"])
    assert (selection.excluded, selection.named, selection.unlisted) == ({"p00": "moved"}, ("p01", "p03"), ("p02",))
    assert len(selection.subject_ids) + len(selection.left_out) == len(copy.study) == 12
    assert selection.notes[-2:] == (
        "2 scans left out by --exclude (p01, p03)",
        "1 scan that the study's cohort table no longer lists left out (p02)",
    )
    assert usable(copy.study, exclude=["p03"])[0].subject_ids == [f"p{k:02d}" for k in range(4, 12)]


def test_a_scan_is_gone_only_where_all_tables_can_be_read_and_none_lists_it(copy: Copy, tmp_path: Path) -> None:
    other = tmp_path / "first_batch.csv"
    shutil.copy(copy.table, other)
    record_table(copy.study, other)
    copy.remove("p05")
    assert not select(copy.study).unlisted  # the other table still lists it
    other.write_text("subject_id,image\np00,0.nii.gz\n,\n", encoding="utf-8")  # with a faulty row
    assert select(copy.study).unlisted == ("p05",)
    other.unlink()
    assert not select(copy.study).unlisted  # what it listed is unknown
    about = json.loads((copy.study.path / "study.json").read_text(encoding="utf-8"))
    del about["tables"]  # as of an earlier version
    (copy.study.path / "study.json").write_text(json.dumps(about), encoding="utf-8")
    assert not select(Study.open(copy.study.path)).unlisted


def test_unknown_identifiers_are_refused_with_the_nearest(copy: Copy, small: Small, parts: Path) -> None:
    wrong = "'p3' (did you mean 'p03'?)"
    for call in (
        lambda: select(copy.study, exclude=["p3"]),
        lambda: anatograph.pretrain(copy.study.path, copy.table.with_name("run"), exclude=["p3"]),
        lambda: anatograph.embed(copy.study.path, model=small.model, exclude=["p3"]),
        lambda: anatograph.embed(copy.table, model=small.model, exclude=["p3"]),
        lambda: anatograph.evaluate(parts / "emb", small.cohort, "density", exclude=["p3"]),
        lambda: anatograph.report(copy.study.path, copy.table.with_name("r.html"), exclude=["p3"]),
    ):
        with pytest.raises(UserError, match=re.escape(wrong)):
            call()
    with pytest.raises(UserError, match="must be a list, not the text 'p03'"):
        select(copy.study, exclude="p03")
    with pytest.raises(UserError, match="is a single CT"):
        anatograph.embed(small.folder / "0.nii.gz", model=small.model, exclude=["p00"])
    select(copy.study, exclude=["p03", "p03"])
    (copy.study.path / "failures.csv").write_text("subject_id,stage,reason\nx1,read,no scan\n", encoding="utf-8")
    assert not select(copy.study, exclude=["x1"]).named  # known, and not there anyway


def test_pretrain_leaves_them_out_and_a_run_continues_without_them(
    copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.remove("p07")
    seen: list[tuple[list[str], tuple[str, ...], list[str]]] = []

    def train(study: Study, run: Path, *more: Any) -> None:
        settings, resume, _, notes, excluded = more
        ids = study.subject_ids
        check_run(Path(run), settings, resume, {"atlas_hash": "a", "subjects": ids})
        begin_run(Path(run), settings or PretrainSettings(), {"atlas_hash": "a", "subjects": ids, "excluded": excluded})
        seen.append((ids, notes, excluded))

    monkeypatch.setattr("anatograph.learning.api.train", train)
    run = tmp_path / "run"
    anatograph.pretrain(copy.study.path, run, exclude=["p03"])
    anatograph.pretrain(copy.study.path, run, exclude=["p03"])
    anatograph.pretrain(copy.study.path, run, resume=True)  # the run's own exclusions
    assert saved_exclusions(run) == ["p03"]
    assert saved_exclusions(tmp_path) == []
    for ids, notes, excluded in seen:
        assert len(ids) == 10
        assert not {"p03", "p07"} & set(ids)
        assert excluded == ["p03"]
        assert any("--exclude (p03)" in note for note in notes)
    with pytest.raises(UserError, match=r"started on other subjects \(1 new: p03\); give the same --exclude"):
        anatograph.pretrain(copy.study.path, run)


def test_embed_leaves_them_out_and_says_so(copy: Copy, small: Small, tmp_path: Path) -> None:
    copy.remove("p07")
    done = anatograph.embed(copy.study.path, tmp_path / "e", model=small.model, exclude=["p03", "p04"])
    assert len(done.subject_ids) == 9
    assert not {"p03", "p04", "p07"} & set(read_embeddings(tmp_path / "e").subject_ids)
    assert any("2 scans left out by --exclude (p03, p04)" in note for note in done.notes)
    assert settings_of(tmp_path / "e.parquet", "embed")["exclude"] == ["p03", "p04"]


def test_of_a_cohort_they_are_not_even_preprocessed(copy: Copy, small: Small, tmp_path: Path) -> None:
    copy.remove(*(f"p{k:02d}" for k in range(3, 12)))
    done = anatograph.embed(copy.table, tmp_path / "e", model=small.model, exclude=["p01"], lungs="given")
    assert done.subject_ids == ["p00", "p02"]
    assert Study.open(tmp_path / "e.study").subject_ids == ["p00", "p02"]
    with pytest.raises(UserError, match="leaves out every scan"):
        anatograph.embed(copy.table, tmp_path / "f", model=small.model, exclude=read_cohort(copy.table).subject_ids)


def test_evaluate_explain_and_export_leave_them_out(small: Small, parts: Path, tmp_path: Path) -> None:
    gone = ["p02", "p09"]
    found = anatograph.evaluate(parts / "emb", small.cohort, "density", 3, out=tmp_path / "v", exclude=gone)
    assert not set(gone) & set(found.predictions["subject_id"])
    assert any("2 scans left out by --exclude (p02, p09)" in note for note in found.notes)
    assert settings_of(tmp_path / "v", "evaluate")["exclude"] == gone
    done = anatograph.explain(
        parts / "study", parts / "emb.parquet", small.cohort, "density", "p05", tmp_path / "x", folds=3, exclude=gone
    )
    held_out = found.predictions.set_index("subject_id")["prediction"]["p05"]  # on the folds of this evaluation
    direction = done.contributions[0].direction
    assert direction.offset + direction.scale * done.contributions[0].answer == pytest.approx(held_out, abs=1e-4)
    exported = anatograph.export(parts / "emb", tmp_path / "e", "csv", no_regions=True, exclude=gone)
    assert exported.subjects == 10
    everyone = read_embeddings(parts / "emb").subject_ids
    with pytest.raises(UserError, match=r"No subject of .* is left: 12 scans left out by --exclude"):
        anatograph.evaluate(parts / "emb", small.cohort, "density", exclude=everyone)


def test_they_are_no_reference(parts: Path, small: Small, tmp_path: Path) -> None:
    study, vectors = parts / "study", parts / "emb.parquet"
    done = anatograph.deviation(study, vectors, "p05", tmp_path, exclude=["p00"])
    assert done.found[0].reference_size == 10
    assert done.account.settings["exclude"] == ["p00"]
    assert any("--exclude (p00)" in note for note in done.account.notes)
    with pytest.raises(UserError, match="'p0' "):
        anatograph.deviation(study, vectors, "p05", tmp_path, exclude=["p0"])
    with pytest.raises(UserError, match="remain"):
        anatograph.deviation(study, vectors, "p05", tmp_path, exclude=["p00", "p01"])
    near = anatograph.similar(vectors, "p05", tmp_path, k=20, exclude=["p04", "p06"])
    assert not {"p04", "p06"} & set(near.subjects["subject_id"])
    normal = anatograph.reference(study, tmp_path / "normal", model=small.model, exclude=["p00", "p11"])
    assert normal.saved.subjects == 10
    with pytest.raises(UserError, match="holds statistics only"):
        anatograph.deviation(study, vectors, "p05", tmp_path, reference=normal.path, exclude=["p00"])


def test_the_report_counts_them_in_its_flow_and_methods(small: Small, parts: Path, copy: Copy, tmp_path: Path) -> None:
    copy.review("p00,exclude,moved")
    copy.remove("p00", "p01")
    shutil.copytree(parts / "evaluation", tmp_path / "evaluation")
    account = tmp_path / "evaluation" / "evaluate.run.json"
    about = json.loads(account.read_text(encoding="utf-8"))
    about["settings"]["exclude"] = ["p02", "p00"]  # as after `evaluate --exclude`
    account.write_text(json.dumps(about), encoding="utf-8")
    page = anatograph.report(
        copy.study.path, tmp_path / "r.html", embeddings=parts / "emb.parquet", evaluation=tmp_path / "evaluation",
        cohort=copy.table, exclude=["p02", "p03"],
    ).read_text(encoding="utf-8")  # fmt: skip
    words = re.search(r'aria-label="Flow of the scans: ([^"]*)"', page)
    assert words is not None
    assert words[1] == (
        "12 scans listed, 12 preprocessed, 1 excluded by the reader, 2 excluded by the analyst, "
        "1 no longer in the cohort table, 8 available for analysis, 8 analysed"
    )
    assert "A reader excluded 1 on inspection (moved, 1). 2 scans were excluded by the analyst" in page
    assert "One scan was taken out of the cohort after preprocessing." in page
    assert page.count("left out by --exclude</span>") == 2
    assert page.count("no longer in the cohort table</span>") == 1
    assert '"subjects":["p04"' in page.replace(" ", "")  # of the map of subjects
    assert "The evaluation counts 4 scans that this page leaves out (p00, p01, p02 and 1 more)" in page
    everyone = build(parts, small, tmp_path / "all.html").read_text(encoding="utf-8")
    assert "excluded by the analyst" not in everyone
