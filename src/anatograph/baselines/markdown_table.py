"""``table.md``: the scores of all rows in the layout of the paper's tables, and what a reader must know to use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from anatograph.baselines.design import Design
from anatograph.baselines.floors import FLOORS
from anatograph.baselines.paper_tables import Published, PublishedTable, column_for
from anatograph.evaluation.metrics import LOWER_IS_BETTER
from anatograph.evaluation.targets import Target

_PERCENT = {"accuracy", "balanced_accuracy", "accuracy_within_one", "accuracy_majority"}
_FURTHER = (
    ("r2_pooled", "R², all held-out subjects at once (± bootstrap)"),
    ("balanced_accuracy", "% balanced accuracy"),
    ("auc", "AUC"),
    ("kappa_quadratic", "Quadratic kappa"),
    ("accuracy_within_one", "% at most one grade off"),
    ("mae", "Mean absolute error"),
)
_ALPHA = 0.05


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


def main_metric(target: Target) -> str:
    """The paper's metric: R² for numbers, accuracy for classes."""
    return "r2" if target.task == "regression" else "accuracy"


def write_table(content: Content) -> str:
    """The whole page in Markdown."""
    design = content.design
    folds, rounds = len(design.rounds[0]), len(design.rounds)
    repeated = f", repeated {rounds} times" if rounds > 1 else ""
    lines = [
        "# Benchmark",
        "",
        f"{len(design.table)} subjects, {folds}-fold cross-validation{repeated}, the same folds for every row. "
        "Mean ± standard deviation over the folds; the best value of a column is bold.",
        "",
        *_main_table(content),
        *_legend(content),
    ]
    for metric, title in _FURTHER:
        lines += _further_table(content, metric, title)
    lines += _region_table(content)
    lines += _below(content)
    return "\n".join(lines).rstrip() + "\n"


def _main_table(content: Content) -> list[str]:
    targets = content.design.targets
    heads = [_head(target, content.log) for target in targets]
    units = ["R²" if main_metric(target) == "r2" else "% accuracy" for target in targets]
    rows = []
    columns = [_column(content, target, main_metric(target)) for target in targets]
    paper = [
        column_for(content.published, target, target.name in content.log) if content.published else {}
        for target in targets
    ]
    for slug, title, supervised in _rows(content, paper):
        cells = []
        for target, column, published in zip(targets, columns, paper, strict=True):
            cell = column.get(slug, "–")
            mark = _mark(content, slug, target)
            cells.append(f"{cell}{mark}{_beside(published.get(slug), target)}")
        rows.append([title, supervised, *cells])
    return [*_markdown([["Method", "Supervised", *heads], ["", "", *units], *rows]), ""]


def _rows(content: Content, paper: Sequence[Mapping[str, Published]]) -> list[tuple[str, str, str]]:
    """slug, title and supervision mark of every row, including rows for which only the paper has results."""
    done = [(str(about["slug"]), _title(about), _supervised(about)) for about in content.abouts]
    known = {slug for slug, _, _ in done}
    extra = [slug for slug in content.titles if slug not in known and any(slug in published for published in paper)]
    return [*done, *((slug, content.titles[slug], "") for slug in extra)]


def _supervised(about: Mapping[str, Any]) -> str:
    if about["slug"] in FLOORS:
        return ""
    return "✓" if str(about["learns"]).startswith("labels") else "✗"


def _title(about: Mapping[str, Any]) -> str:
    note = str(about.get("note") or "")
    return f"{about['method']} ({note})" if note and len(note) <= 40 else f"{about['method']}{' ¹' if note else ''}"


def _column(content: Content, target: Target, metric: str) -> dict[str, str]:
    """Cells of a column by slug, the best in bold."""
    table = content.results
    chosen = table[(table["target"] == target.name) & (table["metric"] == metric)]
    defined = chosen[chosen["mean"].notna()]
    if not len(defined):
        return {}
    return _cells(defined, metric)


def _cells(defined: pd.DataFrame, metric: str) -> dict[str, str]:
    """Cells of rows with ``method``, ``mean`` and ``std``, by slug."""
    slugs = [str(slug) for slug in defined["method"]]
    means, stds = defined["mean"].to_numpy(dtype=float), defined["std"].to_numpy(dtype=float)
    best = means.min() if metric in LOWER_IS_BETTER else means.max()
    texts = {}
    for slug, mean, std in zip(slugs, means, stds, strict=True):
        bold = "**" if mean == best else ""
        texts[slug] = f"{bold}{_cell(metric, float(mean), float(std))}{bold}"
    return texts


def _cell(metric: str, mean: float, std: float) -> str:
    if metric in _PERCENT:
        mean, std, digits = 100 * mean, 100 * std, 1
    else:
        digits = 2 if metric != "mae" or abs(mean) < 10 else 1
    text = f"{mean:.{digits}f}"
    return f"{text} ± {std:.{digits}f}" if std == std else text


def _beside(cell: Published | None, target: Target) -> str:
    """The paper's result in brackets."""
    if cell is None:
        return ""
    digits = 2 if main_metric(target) == "r2" else 1
    spread = "" if cell.std is None else f"±{cell.std:.{digits}f}"
    return f" [{cell.mean:.{digits}f}{spread}]"


def _mark(content: Content, slug: str, target: Target) -> str:
    """▾ where the row is significantly worse than the reference, ▴ where it is better."""
    table = content.comparisons
    if slug == content.reference or not len(table):
        return ""
    chosen = table[
        (table["method"] == content.reference)
        & (table["against"] == slug)
        & (table["target"] == target.name)
        & (table["metric"] == main_metric(target))
    ]
    if not len(chosen) or not float(chosen["p_holm"].iloc[0]) < _ALPHA:
        return ""
    return " ▾" if float(chosen["difference"].iloc[0]) > 0 else " ▴"


def _legend(content: Content) -> list[str]:
    slugs = [str(about["slug"]) for about in content.abouts]
    lines = []
    if content.reference in slugs and len(slugs) > 1:
        title = next(about["method"] for about in content.abouts if about["slug"] == content.reference)
        lines.append(
            f"▾ significantly worse, ▴ significantly better than {title}: corrected resampled t-test over the folds, "
            f"p < {_ALPHA} after Holm's adjustment for the rows of the column. No mark: no difference detected "
            "in these folds."
        )
    if content.published is not None:
        lines.append(
            f"In brackets: the paper's Table {content.published.number} ({content.published.title}, "
            f"{content.published.subjects:,} subjects), arXiv:2012.06457. Its folds are unknown, so differences "
            "between its results and those here are not tested."
        )
    long = [a for a in content.abouts if len(str(a.get("note") or "")) > 40]
    lines += [f"¹ {about['method']}: {about['note']}." for about in long]
    return [line for text in lines for line in (text, "")]


def _further_table(content: Content, metric: str, title: str) -> list[str]:
    targets = [t for t in content.design.targets if _column(content, t, metric)]
    if not targets:
        return []
    columns = [_column(content, target, metric) for target in targets]
    rows = [[_title(about), *(column.get(str(about["slug"]), "–") for column in columns)] for about in content.abouts]
    return [f"## {title}", "", *_markdown([["Method", *(_head(t, content.log) for t in targets)], *rows]), ""]


def _region_table(content: Content) -> list[str]:
    table = content.regions
    if table is None or not len(table):
        return []
    diseases = list(dict.fromkeys(table["target"]))
    titles = {**content.titles, **{str(about["slug"]): _title(about) for about in content.abouts}}
    heads, columns = ["Method"], []
    for disease in diseases:
        for metric, words in (("r2_pooled", "all patches"), ("r2", "mean over folds")):
            chosen = table[(table["target"] == disease) & (table["metric"] == metric)]
            heads.append(f"{disease.replace('_', ' ')}, {words}")
            columns.append(_cells(chosen, metric))
    slugs = list(dict.fromkeys(table["method"]))
    rows = [[titles.get(str(slug), str(slug)), *(column.get(str(slug), "–") for column in columns)] for slug in slugs]
    count = int(table["n"].max())
    return [
        "## Region by region",
        "",
        "R² of a landmark's feature against the diseased fraction of its patch (true masks), split by subject, first "
        f"round of folds; up to {count:,} patches of {int(table['people'].max())} subjects.",
        "",
        *_markdown([heads, *rows]),
        "",
    ]


def _below(content: Content) -> list[str]:
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
    lines += ["", "## Time", "", "| Method | learns from | minutes |", "|---|---|---|"]
    lines += [
        f"| {_title(about)} | {about['learns']} | {float(about['seconds']) / 60:.1f} |" for about in content.abouts
    ]
    return lines


def _head(target: Target, log: Sequence[str]) -> str:
    return f"log {target.name}" if target.name in log else target.name


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]
