"""What the page of a benchmark holds, and its sections below the main tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from anatograph.baselines.design import Design
from anatograph.baselines.markdown_cells import markdown, row_title, table_cell, table_cells
from anatograph.baselines.paper_tables import PublishedTable


@dataclass(frozen=True, eq=False)
class Content:
    """Everything the page is built from."""

    design: Design
    """Targets, subjects, folds."""
    abouts: Sequence[Mapping[str, Any]]
    """slug, method, learns, note, seconds of every finished row, in order."""
    results: pd.DataFrame
    """See `summary.results_table`."""
    comparisons: pd.DataFrame
    """See `summary.comparison_table`."""
    failures: Mapping[str, str]
    """Rows that failed, by slug, and why."""
    log: Sequence[str] = ()
    """Targets on the log scale."""
    published: PublishedTable | None = None
    """The paper's results for the same subjects."""
    notes: Sequence[str] = ()
    """Sentences below the tables."""
    regions: pd.DataFrame | None = None
    """See `summary.region_table`."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Titles of rows outside ``abouts``."""
    reference: str = "anatograph"
    """The row that the others are compared to."""
    column: pd.DataFrame | None = None
    """See `summary.column_table`."""
    preset: str = "default"
    """Sizes of the networks."""


def region_section(content: Content) -> list[str]:
    """R² and AUC region by region, where there are masks."""
    table = content.regions
    if table is None or not len(table):
        return []
    diseases = list(dict.fromkeys(table["target"]))
    titles = {**content.titles, **{str(about["slug"]): row_title(about) for about in content.abouts}}
    heads, columns = ["Method"], []
    for disease in diseases:
        for metric, words in (("r2_pooled", "R², all patches"), ("r2", "R², mean over folds"), ("auc_pooled", "AUC")):
            chosen = table[(table["target"] == disease) & (table["metric"] == metric)]
            if not len(chosen):
                continue
            heads.append(f"{disease.replace('_', ' ')}, {words}")
            columns.append(table_cells(chosen, metric))
    slugs = list(dict.fromkeys(table["method"]))
    rows = [[titles.get(str(slug), str(slug)), *(column.get(str(slug), "–") for column in columns)] for slug in slugs]
    count = int(table["n"].max())
    return [
        "## Region by region",
        "",
        "A landmark's feature against the diseased fraction of its patch (true masks), split by subject, first round "
        f"of folds; AUC of patches with more than 5 % of disease; up to {count:,} patches of "
        f"{int(table['subjects'].max())} subjects.",
        "",
        *markdown([heads, *rows]),
        "",
    ]


def column_section(content: Content) -> list[str]:
    """How well each row reveals the left-out column."""
    table = content.column
    if table is None:
        return []
    column = str(table["column"].iloc[0])
    cells = {
        (str(row["method"]), str(row["probe"])): table_cell("accuracy", float(row["accuracy"]), float(row["std"]))
        for _, row in table.iterrows()
    }
    rows = [
        [row_title(about), *(cells.get((str(about["slug"]), probe), "–") for probe in ("linear", "nonlinear"))]
        for about in content.abouts
        if (about["slug"], "linear") in cells
    ]
    return [
        f"## How well the rows reveal {column}",
        "",
        f"% accuracy in the folds of the first round; the most frequent value alone: {cells['', 'majority']}. A "
        "representation that reveals the scanner is not wrong by itself; what counts is the result with that value "
        "left out.",
        "",
        *markdown([["Method", "linear probe", "non-linear probe"], *rows]),
        "",
    ]


def closing_sections(content: Content) -> list[str]:
    """Unavailable rows, excluded targets, subjects, and what each row took."""
    lines = []
    if content.failures:
        lines += ["## Unavailable", ""]
        lines += [f"* {content.titles.get(slug, slug)}: {reason}" for slug, reason in content.failures.items()]
        lines.append("")
    if content.design.excluded:
        lines += ["## Excluded targets", ""]
        lines += [f"* {reason}" for reason in content.design.excluded.values()]
        lines.append("")
    lines += ["## Subjects", ""]
    for target in content.design.targets:
        if target.classes:
            counts = [int((target.values == k).sum()) for k in range(len(target.classes))]
            counted = ", ".join(f"{name}: {count}" for name, count in zip(target.classes, counts, strict=True))
            how = "; ordinal, by proportional odds" if target.task == "ordinal" else ""
            lines.append(f"* {target.name}: {len(target.rows)} subjects ({counted}){how}")
        else:
            lines.append(f"* {target.name}: {len(target.rows)} subjects")
    lines += [f"* {note}" for note in content.notes]
    return [*lines, *_effort(content)]


def _effort(content: Content) -> list[str]:
    """What each row took, and what size its networks have."""
    sizes = {
        "default": "Networks trained here have their published sizes.",
        "quick": "Networks trained here are small enough for two cores; the published ones are larger, so their rows "
        "are lower bounds.",
    }
    lines = ["", "## Effort", "", sizes.get(content.preset, ""), ""]
    rows = [
        [row_title(about), str(about["learns"]), _count(about.get("updates")), f"{float(about['seconds']) / 60:.1f}"]
        for about in content.abouts
    ]
    return [*lines, *markdown([["Method", "learns from", "updates", "minutes"], *rows])]


def _count(updates: object) -> str:
    return f"{updates:,}" if isinstance(updates, int) and updates else "–"
