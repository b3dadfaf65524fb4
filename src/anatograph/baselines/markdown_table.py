"""``table.md``: the scores of all rows in the layout of the paper's tables, and what a reader must know to use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anatograph.baselines.floors import FLOORS
from anatograph.baselines.markdown_cells import column_head, markdown, row_title, table_cells
from anatograph.baselines.markdown_sections import Content, closing_sections, column_section, region_section
from anatograph.baselines.paper_tables import Published, column_for
from anatograph.evaluation.targets import Target

_FURTHER = (
    ("r2_pooled", "R², all held-out subjects at once (± bootstrap)"),
    ("balanced_accuracy", "% balanced accuracy"),
    ("auc", "AUC"),
    ("kappa_quadratic", "Quadratic kappa"),
    ("accuracy_within_one", "% at most one grade off"),
    ("mae", "Mean absolute error"),
    ("r_within_group", "Correlation within groups (group means removed)"),
    ("leave_out_r2_pooled", "{column} left out: R², all left-out subjects at once (± bootstrap)"),
    ("leave_out_r2", "{column} left out: R², mean over its values"),
    ("leave_out_accuracy", "{column} left out: % accuracy"),
    ("leave_out_auc", "{column} left out: AUC"),
)
_ALPHA = 0.05


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
    column = "" if design.leave_out is None else design.leave_out.column
    for metric, title in _FURTHER:
        lines += _further_table(content, metric, title.format(column=column))
    lines += column_section(content)
    lines += region_section(content)
    lines += closing_sections(content)
    return "\n".join(lines).rstrip() + "\n"


def _main_table(content: Content) -> list[str]:
    targets = content.design.targets
    heads = [column_head(target, content.log) for target in targets]
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
    return [*markdown([["Method", "Supervised", *heads], ["", "", *units], *rows]), ""]


def _rows(content: Content, paper: Sequence[Mapping[str, Published]]) -> list[tuple[str, str, str]]:
    """slug, title and supervision mark of every row, including rows for which only the paper has results."""
    done = [(str(about["slug"]), row_title(about), _supervised(about)) for about in content.abouts]
    known = {slug for slug, _, _ in done}
    extra = [slug for slug in content.titles if slug not in known and any(slug in published for published in paper)]
    return [*done, *((slug, content.titles[slug], "") for slug in extra)]


def _supervised(about: Mapping[str, Any]) -> str:
    if about["slug"] in FLOORS:
        return ""
    return "✓" if str(about["learns"]).startswith("labels") else "✗"


def _column(content: Content, target: Target, metric: str) -> dict[str, str]:
    """Cells of a column by slug, the best in bold."""
    table = content.results
    chosen = table[(table["target"] == target.name) & (table["metric"] == metric)]
    defined = chosen[chosen["mean"].notna()]
    if not len(defined):
        return {}
    return table_cells(defined, metric)


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
    rows = [
        [row_title(about), *(column.get(str(about["slug"]), "–") for column in columns)] for about in content.abouts
    ]
    return [f"## {title}", "", *markdown([["Method", *(column_head(t, content.log) for t in targets)], *rows]), ""]
