"""The results published in the paper, and when they may be shown beside ours: only for the same subjects.

Sun, Yu and Batmanghelich, *Context Matters*, AAAI 2021 (arXiv:2012.06457v1), Tables 1-3: mean and standard deviation
over five folds where given; R² on the log scale, accuracy in percent. "COPDGene" and "MosMed" have recipes here
(`anatograph cohort`). So has the COVID-19 CT data set of Table 3, but the paper does not say which 45 controls it drew:
its subjects are not known to be ours, and its results are not shown beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anatograph.baselines.design import Design
from anatograph.evaluation.targets import Target
from anatograph.study.archives.marker import recipe_of

_MIN_FRACTION = 0.9
"""The cohort must have at least this fraction of the paper's number of subjects for its results to be shown."""


@dataclass(frozen=True)
class Published:
    """One cell of a table."""

    mean: float
    """R², or accuracy in percent."""
    std: float | None = None
    """Standard deviation over the folds, where the paper gives one."""


@dataclass(frozen=True)
class PublishedTable:
    """One table of the paper."""

    number: int
    """1, 2 or 3."""
    title: str
    """Its data set."""
    recipe: str
    """Name of the recipe that builds this cohort; empty where there is none."""
    subjects: int
    """Number of subjects in the paper."""
    log: tuple[str, ...]
    """Columns on the log scale."""
    cells: Mapping[str, Mapping[str, Published]]
    """By column of the cohort, then by slug of the row."""


def _column(text: str) -> dict[str, Published]:
    """ "laa950 0.44 .02, moco 52.7 1.1, cnn2d 51.1" as cells."""
    cells = {}
    for cell in text.split(","):
        slug, mean, *std = cell.split()
        cells[slug] = Published(float(mean), float(std[0]) if std else None)
    return cells


TABLES = (
    PublishedTable(1, "COPDGene", "copdgene", 9180, ("FEV1pp", "FEV1_FVC"), {
        "FEV1pp": _column(
            "laa950 0.44 .02, kmeans 0.55 .03, divergence 0.58 .03, medicalnet 0.47 .10, models-genesis 0.58 .01, "
            "moco 0.40 .02, cnn2d 0.53, subject2vec 0.67 .03, without-ce 0.56 .03, without-graph 0.60 .01, "
            "anatograph 0.62 .01"),
        "FEV1_FVC": _column(
            "laa950 0.60 .01, kmeans 0.68 .02, divergence 0.70 .02, medicalnet 0.59 .06, models-genesis 0.64 .01, "
            "moco 0.49 .02, subject2vec 0.74 .01, without-ce 0.65 .03, without-graph 0.69 .01, anatograph 0.70 .01"),
        "GOLD": _column(
            "laa950 55.8, kmeans 57.3, divergence 58.9, medicalnet 57.0 1.3, models-genesis 59.5 2.3, moco 52.7 1.1, "
            "cnn2d 51.1, subject2vec 65.4, without-ce 61.6 1.2, without-graph 62.5 1.0, anatograph 63.2 1.1"),
        "CLE": _column(
            "laa950 32.9, medicalnet 40.3 1.9, models-genesis 41.8 1.4, moco 36.5 0.7, subject2vec 40.6, "
            "without-ce 48.1 0.4, without-graph 49.2 1.1, anatograph 50.4 1.3"),
        "paraseptal": _column(
            "laa950 33.3, medicalnet 53.1 0.7, models-genesis 52.7 0.5, moco 52.5 1.4, subject2vec 52.8, "
            "without-ce 55.5 0.8, without-graph 55.8 1.3, anatograph 56.2 1.1"),
        "AE_history": _column(
            "laa950 73.8, medicalnet 78.7 1.3, models-genesis 77.8 0.8, moco 78.6 0.9, cnn2d 60.4, subject2vec 76.9, "
            "without-ce 78.8 1.2, without-graph 78.7 1.5, anatograph 78.8 1.3"),
        "future_AE": _column(
            "laa950 73.8, medicalnet 81.4 1.7, models-genesis 76.7 1.2, moco 82.0 1.2, subject2vec 68.3, "
            "without-ce 80.8 1.7, without-graph 80.7 1.7, anatograph 81.1 1.6"),
        "mMRC": _column(
            "laa950 41.6, medicalnet 47.9 1.2, models-genesis 46.0 1.2, moco 46.4 1.7, subject2vec 43.6, "
            "without-ce 50.4 1.0, without-graph 50.6 0.8, anatograph 51.0 1.0"),
    }),
    PublishedTable(2, "MosMed", "mosmeddata", 1110, (), {
        "covid_severity": _column(
            "medicalnet 62.1, models-genesis 62.0, moco 62.1, cnn3d 61.2, without-ce 63.3, without-graph 64.3, "
            "anatograph 65.3"),
    }),
    PublishedTable(3, "COVID-19 CT Dataset, pretrained on MosMed", "", 80, (), {
        "covid": _column("medicalnet 85.0, models-genesis 88.7, moco 86.3, cnn3d 77.5, anatograph 96.3"),
    }),
    PublishedTable(3, "COVID-19 CT Dataset, pretrained on COPDGene", "", 80, (), {
        "covid": _column("medicalnet 85.0, models-genesis 92.5, moco 75.0, cnn3d 77.5, anatograph 90.0"),
    }),
)  # fmt: skip
"""The paper's tables, with the column names that the recipes write."""


def published_for(design: Design) -> tuple[PublishedTable | None, str]:
    """The paper's table for these subjects, or None and, where one could be expected, why not.

    All rows of the cohort must carry a recipe's mark with unchanged labels, match the paper's number of subjects
    approximately, and be evaluated in five folds.
    """
    recipe = recipe_of(design.table)
    table = next((one for one in TABLES if one.recipe and one.recipe == recipe.name), None)
    if table is None:
        return None, recipe.why_not
    if len(design.table) < _MIN_FRACTION * table.subjects:
        return None, (
            f"The paper's results for {table.title} are not shown: it has {table.subjects:,} subjects, this "
            f"cohort {len(design.table):,}."
        )
    if len(design.rounds[0]) != 5:
        return None, f"The paper's results for {table.title} are not shown: they are from five folds."
    return table, ""


def column_for(table: PublishedTable, target: Target, log: bool) -> Mapping[str, Published]:
    """The paper's results for a target: none where it is another quantity, for example on another scale."""
    if target.name not in table.cells or log != (target.name in table.log) or target.task == "ordinal":
        return {}
    return table.cells[target.name] if (target.task == "regression") == (target.name in table.log) else {}
