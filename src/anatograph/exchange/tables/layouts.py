"""The three layouts of a flat table, as a sequence of blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from anatograph.choices import TableLayout
from anatograph.exchange.tables.content import Content

_ROWS = 1000
"""Subjects in one block."""


def blocks(content: Content, layout: TableLayout) -> Iterator[pd.DataFrame]:
    """The table in blocks of rows, with the same columns in each.

    ``wide``: one row per subject, one column per feature.  ``long``: one row per subject and feature, with the columns
    ``feature`` and ``value``.  ``regions``: one row per subject and landmark, one column per feature.

    Raises:
        UserError: ``regions`` without a store of regions.
    """
    if layout == "regions":
        yield from content.region_tables()
        return
    for start in range(0, len(content.subjects), _ROWS):
        own = content.subjects.iloc[start : start + _ROWS].reset_index(drop=True)
        values = pd.DataFrame(content.features[start : start + _ROWS], columns=pd.Index(content.names))
        wide = pd.concat([own, values], axis=1)
        if layout == "wide":
            yield wide
        else:
            long = wide.melt(id_vars=list(own.columns), var_name="feature", value_name="value")
            order = pd.Index(long["subject_id"]).get_indexer_for(own["subject_id"])
            yield long.iloc[order].reset_index(drop=True)
