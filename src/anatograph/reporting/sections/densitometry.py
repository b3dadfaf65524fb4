"""The section about quantitative CT: density by part of the lungs and group, and of every subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anatograph.errors import UserError
from anatograph.reporting.figures.densitometry import MEASURES, by_zone, natural
from anatograph.reporting.figures.figure import Figure
from anatograph.reporting.redaction import Discretion
from anatograph.reporting.sections.tables import Table
from anatograph.reporting.subjects import group_column, label

FILE = "densitometry.parquet"
"""The table's name where it is looked for."""
_ZONES = {
    "whole": "whole", "right": "right", "left": "left", "upper": "upper", "middle": "middle", "lower": "lower",
    "left_upper_lobe": "left upper lobe", "left_lower_lobe": "left lower lobe", "right_upper_lobe": "right upper lobe",
    "right_middle_lobe": "right middle lobe", "right_lower_lobe": "right lower lobe",
}  # fmt: skip
"""Parts of the lungs that are shown, and in words."""
_NEEDED = ("subject_id", *(f"whole_{measure}" for measure in MEASURES))
MOST_LISTED = 500
"""Subjects in the table; of more, the file has the rest."""


@dataclass(frozen=True)
class DensitometrySection:
    """Quantitative CT."""

    figures: list[Figure]
    """A figure for each measure."""
    summary: Table
    """Median and IQR of each measure by part of the lungs and group."""
    subjects: Table
    """Whole lungs of every subject, beside its group."""
    omitted: int
    """Subjects beyond `MOST_LISTED`."""
    missing: int
    """Subjects of the study that were not measured."""


def find_densitometry(given: str | Path | None, folders: Sequence[Path]) -> Path | None:
    """The table that is named, else the first `FILE` in ``folders``.

    Raises:
        UserError: a table that is named but missing.
    """
    if given is not None:
        if not Path(given).is_file():
            raise UserError(f"There is no table {given}; name the file that `anatograph densitometry` wrote.")
        return Path(given)
    return next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)


def densitometry(
    path: Path,
    subject_ids: Sequence[str],
    cohort: pd.DataFrame | None,
    columns: Sequence[str],
    discretion: Discretion,
    named: bool = True,
) -> DensitometrySection | None:
    """Figures and tables of the subjects that the study has; groups are those of the cohort's diagnosis or the like.

    None for a table of other subjects that was found and not ``named``.

    Raises:
        UserError: a table that `anatograph densitometry` did not write, or one of another study.
    """
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as Parquet ({error}); run `anatograph densitometry` again.") from error
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; run `anatograph densitometry` again.")
    table["subject_id"] = table["subject_id"].astype(str)
    table = table[table["subject_id"].isin(subject_ids)].drop_duplicates("subject_id").reset_index(drop=True)
    if not len(table):
        if named:
            raise UserError(f"{path} has no subject of this study; name the table of `anatograph densitometry STUDY`.")
        return None
    column = group_column(cohort, columns) if cohort is not None else None
    groups = pd.Series("all subjects", index=table.index)
    if cohort is not None and column is not None:
        known = cohort.drop_duplicates("subject_id").set_index("subject_id")[column]
        groups = pd.Series([label(value) for value in known.reindex(table["subject_id"])], index=table.index)
    order = sorted(groups.unique(), key=natural)
    zones = {zone: words for zone, words in _ZONES.items() if f"{zone}_volume_ml" in table}
    return DensitometrySection(
        by_zone(table, zones, groups, column or "", discretion),
        _summary(table, zones, groups, order),
        _subjects(table, groups, column, discretion),
        max(0, len(table) - MOST_LISTED),
        len(subject_ids) - len(table),
    )


def _summary(table: pd.DataFrame, zones: dict[str, str], groups: pd.Series, order: Sequence[str]) -> Table:
    rows = []
    for group in order:
        own = table[groups == group]
        for zone, words in zones.items():
            cells = [_spread(factor * own[f"{zone}_{name}"], unit) for name, (_, _, unit, factor) in MEASURES.items()]
            rows.append((words if len(order) == 1 else f"{group}, {words}", *cells))
    header = ("part of the lungs", *(f"{name}, {unit}" for name, _, unit, _ in MEASURES.values()))
    many = "; " + ", ".join(f"{group} n = {int((groups == group).sum())}" for group in order) if len(order) > 1 else ""
    return Table(header, tuple(rows), f"Median (IQR) of {len(table)} subjects{many}")


def _spread(values: pd.Series, unit: str) -> str:
    known = values.dropna()
    if not len(known):
        return "–"
    low, middle, high = (_value(float(known.quantile(share)), unit) for share in (0.25, 0.5, 0.75))
    return f"{middle} ({low} to {high})" if len(known) > 1 else middle


def _subjects(table: pd.DataFrame, groups: pd.Series, column: str | None, discretion: Discretion) -> Table:
    """By group, within it by LAA-950."""
    ordered = table.assign(_group=groups).sort_values(["_group", "whole_laa950"], ascending=[True, False])
    rows = []
    for row in ordered.head(MOST_LISTED).to_dict("records"):
        cells = [_value(factor * float(row[f"whole_{name}"]), unit) for name, (_, _, unit, factor) in MEASURES.items()]
        noise = [_value(float(row["noise_hu"]), "HU")] if "noise_hu" in row else []
        group = [str(row["_group"])] if column else []
        rows.append((discretion.subject(str(row["subject_id"])), *group, *cells, *noise))
    header = ("subject", *([column] if column else []), *(f"{name}, {unit}" for name, _, unit, _ in MEASURES.values()))
    if "noise_hu" in table:
        header = (*header, "Noise, HU")
    return Table(header, tuple(rows), "Whole lungs of each subject")


def _value(value: float, unit: str) -> str:
    return "–" if value != value else f"{value:.1f}" if unit == "%" else f"{value:.0f}"
