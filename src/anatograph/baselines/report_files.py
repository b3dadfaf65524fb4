"""The output files of a benchmark, rewritten from all finished rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anatograph.baselines.design import Design
from anatograph.baselines.floors import FLOORS
from anatograph.baselines.markdown_sections import Content
from anatograph.baselines.markdown_table import write_table
from anatograph.baselines.paper_tables import published_for
from anatograph.baselines.region_rows import PATCH_DENSITY, PATCH_DENSITY_TITLE, RegionRow, RegionTruth, read_regions
from anatograph.baselines.registry import METHODS
from anatograph.baselines.row_runner import Row, read_row
from anatograph.baselines.row_store import RowStore
from anatograph.baselines.summary import (
    column_table,
    comparison_table,
    fold_table,
    predictions_table,
    region_table,
    results_table,
    row_scores,
)
from anatograph.errors import UserError
from anatograph.evaluation.scores import Score
from anatograph.execution.files import whole_file, write_text

_TITLES = {PATCH_DENSITY: PATCH_DENSITY_TITLE, **{slug: row.title for slug, row in METHODS.items()}}
"""Titles of all rows, for those that are not finished."""


@dataclass(frozen=True, eq=False)
class Written:
    """The files written and their content."""

    results: pd.DataFrame
    """``results.csv``."""
    comparisons: pd.DataFrame
    """``comparisons.csv``."""
    table: str
    """``table.md``."""
    files: tuple[Path, ...]
    """Their paths."""


class Reporter:
    """Finds the finished rows in a benchmark's folder and writes the files that summarise them.

    Scores of a row are computed once; rows that another process finished meanwhile are found too.
    """

    def __init__(
        self,
        folder: Path,
        design: Design,
        log: Sequence[str],
        bootstrap: int,
        truth: RegionTruth | None,
        preset: str,
    ) -> None:
        self.folder, self.design, self.log, self.bootstrap, self.truth = folder, design, tuple(log), bootstrap, truth
        self.preset = preset
        self.notes: list[str] = []
        """Sentences for the account and the table."""
        self._rows: dict[str, Row] = {}
        self._scores: dict[str, dict[str, list[Score]]] = {}
        self._regions: dict[str, tuple[RegionRow, pd.DataFrame]] = {}

    def write(self, wanted: Sequence[str]) -> Written:
        """Write all files.

        Raises:
            UserError: ``wanted`` names rows but none at all is finished.
        """
        self._refresh()
        if not self._rows:
            if wanted:
                raise UserError("Every row of the benchmark failed; the account gives the reason for each.")
            return Written(pd.DataFrame(), pd.DataFrame(), "", ())
        rows = [self._rows[slug] for slug in self._order(self._rows)]
        scores = {row.slug: self._scores[row.slug] for row in rows}
        results = results_table(scores, self.design, self.bootstrap)
        comparisons = comparison_table(scores, self.design)
        regions, column = self._region_table(), column_table(rows, self.design)
        published, why_not = published_for(self.design)
        content = Content(
            self.design, [row.about for row in rows], results, comparisons, self._failures(), self.log, published,
            [*self.design.notes, *self.notes, *([why_not] if why_not else [])], regions, _TITLES,
            "anatograph" if "anatograph" in self._rows else rows[-1].slug, column, self.preset,
        )  # fmt: skip
        table = write_table(content)
        files = []
        for name, frame in (
            ("results.csv", results),
            ("comparisons.csv", comparisons),
            ("folds.csv", fold_table(scores, self.design)),
            ("regions.csv", regions),
            ("column_accuracy.csv", column),
        ):
            if frame is not None:
                write_text(self.folder / name, frame.to_csv(index=False, lineterminator="\n"))
                files.append(self.folder / name)
        with whole_file(self.folder / "predictions.parquet") as part:
            predictions_table(rows, self.design).to_parquet(part, index=False)
        write_text(self.folder / "table.md", table)
        files += [self.folder / "predictions.parquet", self.folder / "table.md"]
        return Written(results, comparisons, table, tuple(files))

    def _refresh(self) -> None:
        """Read the rows finished since the last call."""
        for store in self._stores():
            slug = store.folder.name
            if slug not in self._rows and (row := read_row(store, self.design)) is not None:
                self._rows[slug], self._scores[slug] = row, row_scores(row, self.design, self.bootstrap)
            if self.truth is not None and slug not in self._regions:
                regions = read_regions(slug, self.truth, store)
                if regions is not None:
                    landmarks = self.truth.present.shape[1]
                    self._regions[slug] = regions, region_table([regions], self.design, landmarks)

    def _stores(self) -> list[RowStore]:
        folder = self.folder / "methods"
        return [RowStore(entry) for entry in sorted(folder.iterdir()) if entry.is_dir()] if folder.is_dir() else []

    def _failures(self) -> dict[str, str]:
        tried = {store.folder.name: store.failure for store in self._stores()}
        return {slug: reason for slug in self._order(tried) if (reason := tried[slug]) is not None}

    def _region_table(self) -> pd.DataFrame | None:
        if not self._regions:
            return None
        return pd.concat([self._regions[slug][1] for slug in self._order(self._regions)], ignore_index=True)

    def _order(self, slugs: Iterable[str]) -> list[str]:
        """Floors first, then rows unknown to the registry, then the registry's rows in its order."""
        place = {slug: number for number, slug in enumerate([*FLOORS, PATCH_DENSITY, "", *METHODS])}
        return sorted(slugs, key=lambda slug: (place.get(slug, place[""]), slug))
