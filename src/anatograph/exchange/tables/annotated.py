"""AnnData, for scanpy and its relatives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anatograph.errors import UserError
from anatograph.exchange.tables.content import AXES, Content
from anatograph.execution.files import whole_file


def write_anndata(path: Path, content: Content) -> None:
    """Write an AnnData ``.h5ad``: subjects are observations, features of the subject's vector are variables.

    ``X`` (n, F); ``obs`` the cohort columns, indexed by ``subject_id``; ``var["part"]`` what a feature is pooled from;
    ``obsm["regions"]`` (n, L, F') features of the regions, NaN where a subject lacks a landmark; ``uns["landmarks"]``
    their atlas coordinates in LPS mm; ``uns["anatograph"]`` the hashes of atlas and model, and the pooling.

    Raises:
        UserError: the extra ``anndata`` is not installed.
    """
    try:
        import anndata
    except ImportError:
        raise UserError(
            "--to anndata needs the package anndata; install it with: pip install 'anatograph[anndata]'."
        ) from None
    obs = pd.DataFrame(
        {str(name): _plain(content.subjects[name]) for name in content.subjects.columns if name != "subject_id"},
    )
    obs.index = pd.Index(content.subject_ids, dtype=object, name="subject_id")
    var = pd.DataFrame(index=pd.Index(content.names, dtype=object))
    if content.parts:
        var["part"] = _categories(content.parts)
    data = anndata.AnnData(X=content.features, obs=obs, var=var)
    data.uns["anatograph"] = content.metadata()
    if content.regions is not None:
        data.obsm["regions"] = np.stack([content.regions.of(name) for name in content.subject_ids])
        data.uns["landmarks"] = content.landmarks[list(AXES)].to_numpy()
        data.uns["landmarks_axes"] = np.array(AXES, dtype=object)
    with whole_file(path, ".h5ad") as part:
        data.write_h5ad(part, compression="gzip")


def _plain(column: pd.Series) -> pd.Series | pd.Categorical:
    """A column as HDF5 can hold it: numbers, yes and no, or categories with missing ones allowed."""
    known = column.dropna()
    if len(known) == len(column) and pd.api.types.is_bool_dtype(known.infer_objects()):
        return column.astype(bool).reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(np.float64) if pd.api.types.is_extension_array_dtype(column.dtype) else column
    values = [None if pd.isna(value) else str(value) for value in column]
    return _categories(values)


def _categories(values: Sequence[str | None]) -> pd.Categorical:
    """Text as categories of plain Python strings; anndata writes no others."""
    known = sorted({value for value in values if value is not None})
    column: pd.Series[Any] = pd.Series(list[Any](values), dtype=object)
    return pd.Categorical(column, categories=pd.Index(known, dtype=object))
