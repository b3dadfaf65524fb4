"""The section about test-retest error, from ``test_retest.csv`` of `change`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anatograph.explanation.visits.repeatability import FEW_PAIRS
from anatograph.reporting.figures.figure import Figure
from anatograph.reporting.figures.repeats import order_of, repeat_errors
from anatograph.reporting.sections.tables import Table, number, read_json, read_table

FILE = "test_retest.csv"
"""The table's name in the folders where it is looked for."""
_COLUMNS = ("landmark", "place", "pairs", "smallest_detectable_change", "shift_median", "shift_limit")
_SUMMARY = (
    ("repeat_vector_icc", "intraclass correlation ICC(1,1) of the vector's features, median"),
    ("repeat_vector_distance", "distance of the vectors of repeat scans, in units of that of two subjects, median"),
    ("repeat_share_beyond", "share of regions of repeat scans beyond either limit"),
)
"""Results in the account of `change`, and in words."""


@dataclass(frozen=True)
class RepeatsSection:
    """Test-retest error."""

    figures: list[Figure]
    """Smallest detectable change and limit of the shift, by place."""
    summary: Table
    """The whole vector."""
    places: Table
    """Medians by place."""
    pairs: int
    """Pairs of repeat scans."""
    few: bool
    """Whether they are too few for more than a rough estimate."""


def repeats(folders: Sequence[Path]) -> RepeatsSection | None:
    """Of the first of ``folders`` that holds `FILE`; None where none does.

    Raises:
        UserError: a table that lacks a column.
    """
    folder = next((one for one in folders if (one / FILE).is_file()), None)
    if folder is None:
        return None
    table = read_table(folder / FILE, folder, "anatograph change --repeat-scans", _COLUMNS)
    if not len(table):
        return None
    pairs = int(table["pairs"].max())
    results = (read_json(folder / "change.run.json") or {}).get("results", {})
    rows = [("pairs of repeat scans", str(pairs))]
    rows += [(words, number(results[key])) for key, words in _SUMMARY if isinstance(results.get(key), int | float)]
    by_place = table.groupby("place", sort=True)[["smallest_detectable_change", "shift_median", "shift_limit"]]
    medians, sizes = by_place.median(), by_place.size().to_dict()
    rows_by_place = tuple(
        (place, str(sizes[place]), *map(number, medians.loc[place]))
        for place in sorted(map(str, medians.index), key=order_of)
    )
    return RepeatsSection(
        repeat_errors(table),
        Table(("figure", "value"), tuple(rows), "Repeatability of the embedding"),
        Table(
            ("place", "landmarks", "smallest detectable change", "median shift", "limit of the shift"),
            rows_by_place,
            "Medians over the landmarks of a place",
        ),
        pairs,
        pairs < FEW_PAIRS,
    )
