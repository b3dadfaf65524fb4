"""Parquet files from unknown sources, whose size is checked before they are read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from anatograph.limits import MAX_TABLE_BYTES

_MOST_CELLS = 500_000_000


def read_parquet(path: Path) -> pd.DataFrame:
    """A Parquet file as a table.

    Raises:
        ValueError: it cannot be read, or says that it holds more than `anatograph.limits.MAX_TABLE_BYTES`.
        OSError: it does not exist.
    """
    import pyarrow.parquet as pq
    from pyarrow.lib import ArrowException

    try:
        about = pq.ParquetFile(path).metadata
        size = sum(about.row_group(k).total_byte_size for k in range(about.num_row_groups))
        if size > MAX_TABLE_BYTES or about.num_rows * max(1, about.num_columns) > _MOST_CELLS:
            raise ValueError(f"it says that it holds {about.num_rows} rows, {size / 1e9:.1f} GB, too much for a table")
        return pd.read_parquet(path)
    except (ArrowException, KeyError, TypeError, AttributeError, IndexError, RecursionError, MemoryError) as error:
        raise ValueError(" ".join(str(error).split())[:300] or type(error).__name__) from error
