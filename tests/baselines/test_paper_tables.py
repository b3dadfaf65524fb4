"""The paper's results are shown for the paper's subjects only, and the provenance of a model is stated."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anatograph.baselines.design import Design
from anatograph.baselines.markdown_sections import Content
from anatograph.baselines.markdown_table import write_table
from anatograph.baselines.paper_tables import TABLES, column_for, published_for
from anatograph.baselines.provenance import pretraining_note
from anatograph.baselines.row_runner import Row
from anatograph.baselines.summary import comparison_table, results_table, row_scores
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.targets import Target, read_target
from anatograph.study.archives.build import build_cohort
from anatograph.study.archives.mosmeddata import PUBLISHED
from anatograph.study.cohort import read_cohort


@pytest.fixture(scope="module")
def mosmed(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The table of an archive of the published size, of empty files."""
    folder = tmp_path_factory.mktemp("mosmed")
    number = 0
    for grade, count in PUBLISHED.items():
        (folder / "studies" / f"CT-{grade}").mkdir(parents=True)
        for _ in range(count):
            number += 1
            (folder / "studies" / f"CT-{grade}" / f"study_{number:04d}.nii.gz").touch()
    return read_cohort(build_cohort("mosmeddata", folder, folder / "cohort.csv").path).table


def design_of(table: pd.DataFrame, folds: int = 5) -> Design:
    order = np.random.default_rng(1).permutation(len(table))
    rounds = (tuple((np.setdiff1d(order, part), np.sort(part)) for part in np.array_split(order, folds)),)
    target = read_target(table, "covid_severity")
    return Design(None, table, Path(), (target,), rounds, None, 0, {}, ())  # type: ignore[arg-type]


def row(slug: str, design: Design, right: float) -> Row:
    (target,) = design.targets
    random = np.random.default_rng(0)
    predicted = np.where(random.random(len(target.values)) < right, target.values, 1)
    chance = np.eye(5)[predicted.astype(int)]
    fold = np.zeros(len(predicted), dtype=np.int64)
    for k, (_, test) in enumerate(design.rounds[0]):
        fold[test] = k
    about = {"slug": slug, "method": slug.title(), "learns": "without labels", "note": "", "seconds": 1.0}
    return Row(about, {target.name: [Predictions(fold, predicted, chance, np.ones(len(predicted)))]})


def page(design: Design, *rows: Row) -> str:
    scores = {one.slug: row_scores(one, design, 0) for one in rows}
    published, why_not = published_for(design)
    content = Content(
        design, [one.about for one in rows], results_table(scores, design, 0), comparison_table(scores, design), {}, (),
        published, [why_not] if why_not else [], None, {"cnn3d": "3D CNN"},
    )  # fmt: skip
    return write_table(content)


def test_published_results_are_shown_for_the_papers_subjects(mosmed: pd.DataFrame) -> None:
    design = design_of(mosmed)
    text = page(design, row("moco", design, 0.1), row("anatograph", design, 0.7))
    assert re.search(r"\| Anatograph \| ✗ \| \*\*\d\d\.\d ± \d\.\d\*\* \[65\.3\] \|", text)
    assert re.search(r"\| Moco \| ✗ \| \d\d\.\d ± \d\.\d ▾ \[62\.1\] \|", text)
    assert "| 3D CNN |  | – [61.2] |" in text  # a row that only the paper has
    assert "the paper's Table 2 (MosMed, 1,110 subjects)" in text


@pytest.mark.parametrize("change", ["fewer", "labels", "folds", "unmarked"])
def test_and_for_no_others(mosmed: pd.DataFrame, change: str) -> None:
    table = mosmed.copy()
    if change == "fewer":
        table = table.iloc[:900]
    if change == "labels":
        table.loc[5, "covid_severity"] = 3
    if change == "unmarked":
        table = table.drop(columns="recipe")
    design = design_of(table, 4 if change == "folds" else 5)
    text = page(design, row("anatograph", design, 0.7))
    assert "[65.3]" not in text
    assert ("are not shown" in text) == (change != "unmarked")  # and says why, where one could expect them


def test_another_scale_or_kind_is_another_quantity() -> None:
    copdgene = TABLES[0]
    numbers = Target("FEV1pp", "regression", np.arange(3), np.ones(3))
    assert column_for(copdgene, numbers, log=True)["anatograph"].mean == 0.62
    assert column_for(copdgene, numbers, log=False) == {}
    grade = Target("GOLD", "classification", np.arange(3), np.ones(3), ("0", "1"))
    assert column_for(copdgene, grade, log=False)["anatograph"].mean == 63.2
    assert column_for(copdgene, replace(grade, task="regression"), log=False) == {}
    assert column_for(copdgene, replace(grade, task="ordinal"), log=False) == {}  # the paper's probe knew no order


def test_published_results_match_the_papers_text(shared: Path) -> None:
    """Every number of the data module occurs in the paper."""
    text = (shared / "paper" / "context-matters.txt").read_text(encoding="utf-8")
    for table in TABLES:
        for column in table.cells.values():
            for figure in column.values():
                percent = figure.mean > 1
                mean = f"{figure.mean:.1f}" if percent else f"{figure.mean:.2f}"
                std = "" if figure.std is None else "±" + (f"{figure.std:.1f}" if percent else f"{figure.std:.2f}"[1:])
                assert mean + std in text, mean + std


def test_where_a_model_comes_from(tmp_path: Path) -> None:
    class Study:
        def digest(self) -> str:
            return "mine"

    def note(training: dict[str, Any]) -> str:
        (tmp_path / "config.json").write_text(pd.Series({"training": training}).to_json())
        return pretraining_note(tmp_path, Study())  # type: ignore[arg-type]

    assert note({"cohort": "mine", "subjects": 7}) == ""
    assert note({"cohort": "other", "subjects": 7}) == "pretrained on another cohort, 7 subjects"
    assert "not recorded" in note({"subjects": 7})
    assert "not recorded" in pretraining_note(tmp_path / "none", Study())  # type: ignore[arg-type]
