"""The files of a benchmark, written anew from everything that is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from anatograph.baselines.methods.floors import FLOORS
from anatograph.baselines.plan import Plan
from anatograph.baselines.published import published_for
from anatograph.baselines.region_rows import PATCH_DENSITY, PATCH_DENSITY_TITLE, RegionRow, RegionTruth, read_regions
from anatograph.baselines.registry import METHODS, make_method
from anatograph.baselines.rows import Row, RowStore, read_row
from anatograph.baselines.summary import (
    comparison_table,
    fold_table,
    predictions_table,
    region_table,
    results_table,
    row_scores,
)
from anatograph.baselines.tables import Content, write_table
from anatograph.errors import UserError
from anatograph.evaluation.scores import Score
from anatograph.execution.files import write_text


@dataclass(frozen=True, eq=False)
class Written:
    """What was written."""

    results: pd.DataFrame
    """``results.csv``."""
    comparisons: pd.DataFrame
    """``comparisons.csv``."""
    table: str
    """``table.md``."""
    files: tuple[Path, ...]
    """Where they are."""


class Reporter:
    """Knows the rows that are done in a benchmark's folder and writes the files that sum them up.

    Figures of a row are computed once; a row that another process finished beside this one is found too.
    """

    def __init__(self, folder: Path, plan: Plan, log: Sequence[str], bootstrap: int, truth: RegionTruth | None) -> None:
        self.folder, self.plan, self.log, self.bootstrap, self.truth = folder, plan, tuple(log), bootstrap, truth
        self.notes: list[str] = []
        """Sentences for the account and the page."""
        self._rows: dict[str, Row] = {}
        self._scores: dict[str, dict[str, list[Score]]] = {}
        self._regions: dict[str, tuple[RegionRow, pd.DataFrame]] = {}

    def write(self, wanted: Sequence[str]) -> Written:
        """Write all files.

        Raises:
            UserError: ``wanted`` names rows and not one row at all is done.
        """
        self._look()
        if not self._rows:
            if wanted:
                raise UserError("No row of the benchmark could be had; the account says why of each.")
            return Written(pd.DataFrame(), pd.DataFrame(), "", ())
        rows = [self._rows[slug] for slug in self._order(self._rows)]
        scores = {row.slug: self._scores[row.slug] for row in rows}
        results = results_table(scores, self.plan, self.bootstrap)
        comparisons = comparison_table(scores, self.plan)
        regions = self._region_table()
        published, why_not = published_for(self.plan)
        content = Content(
            self.plan, [row.about for row in rows], results, comparisons, self._failures(), self.log, published,
            [*self.plan.notes, *self.notes, *([why_not] if why_not else [])], regions, self._titles,
            "anatograph" if "anatograph" in self._rows else rows[-1].slug,
        )  # fmt: skip
        table = write_table(content)
        files = []
        for name, frame in (
            ("results.csv", results),
            ("comparisons.csv", comparisons),
            ("folds.csv", fold_table(scores, self.plan)),
            ("regions.csv", regions),
        ):
            if frame is not None:
                write_text(self.folder / name, frame.to_csv(index=False, lineterminator="\n"))
                files.append(self.folder / name)
        part = self.folder / ".predictions.parquet.part"
        predictions_table(rows, self.plan).to_parquet(part, index=False)
        part.replace(self.folder / "predictions.parquet")
        write_text(self.folder / "table.md", table)
        files += [self.folder / "predictions.parquet", self.folder / "table.md"]
        return Written(results, comparisons, table, tuple(files))

    def _look(self) -> None:
        """Read the rows that have been finished since the last look."""
        for store in self._stores():
            slug = store.folder.name
            if slug not in self._rows and (row := read_row(store, self.plan)) is not None:
                self._rows[slug], self._scores[slug] = row, row_scores(row, self.plan, self.bootstrap)
            if self.truth is not None and slug not in self._regions:
                found = read_regions(slug, self.truth, store)
                if found is not None:
                    landmarks = self.truth.present.shape[1]
                    self._regions[slug] = found, region_table([found], self.plan, landmarks)

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

    @cached_property
    def _titles(self) -> dict[str, str]:
        """Titles of rows that are not done, as far as they can be had without their libraries."""
        titles = {PATCH_DENSITY: PATCH_DENSITY_TITLE}
        for slug in METHODS:
            try:
                titles[slug] = make_method(slug).title
            except Exception:
                titles[slug] = slug
        return titles

    def _order(self, slugs: Iterable[str]) -> list[str]:
        """Floors, rows that the registry does not know, and the registry's, in its order."""
        place = {slug: number for number, slug in enumerate([*FLOORS, PATCH_DENSITY, "", *METHODS])}
        return sorted(slugs, key=lambda slug: (place.get(slug, place[""]), slug))
