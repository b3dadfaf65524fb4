"""Whether a Zarr store is one that we would have written, before Zarr opens it.

Its metadata names codecs, and codecs may be anything that is installed (numcodecs has one that unpickles); it also says
how much memory a chunk takes when it is unpacked.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from anatograph.limits import read_json

_CODECS = {"bytes", "zstd", "gzip", "blosc", "crc32c", "transpose", "sharding_indexed"}
_TYPES = {"float16": 2, "float32": 4, "float64": 8}
_LARGEST_CHUNK = 2**31
"""Bytes of a chunk, unpacked: a subject's regions take 0.3 MB."""


def check_zarr(path: Path) -> None:
    """Refuse a store whose metadata asks for more than plain numbers, compressed in a usual way.

    Raises:
        ValueError: says what of it is not accepted.
        OSError: there is no ``zarr.json``.
    """
    about = read_json(path / "zarr.json")
    if not isinstance(about, dict) or about.get("zarr_format") != 3 or about.get("node_type") != "array":
        raise ValueError("zarr.json does not describe an array of Zarr format 3")
    if not isinstance(about.get("data_type"), str) or about["data_type"] not in _TYPES:
        raise ValueError(f"it holds {str(about.get('data_type'))[:40]}, not floating-point numbers")
    if about.get("storage_transformers"):
        raise ValueError("it asks for storage transformers")
    shape = _shape(about.get("shape"), least=0)
    grid = about.get("chunk_grid")
    if not isinstance(grid, dict) or grid.get("name") != "regular" or not isinstance(grid.get("configuration"), dict):
        raise ValueError("its chunks are not regular")
    chunks = _shape(grid["configuration"].get("chunk_shape"), least=1)
    if len(chunks) != len(shape) or math.prod(chunks) * _TYPES[about["data_type"]] > _LARGEST_CHUNK:
        raise ValueError(f"it claims chunks of {list(chunks)} numbers")
    _check_codecs(about.get("codecs"), 0)


def _check_codecs(codecs: Any, depth: int) -> None:
    if not isinstance(codecs, list) or not all(isinstance(codec, dict) for codec in codecs) or depth > 2:
        raise ValueError("its codecs are not a list")
    for codec in codecs:
        if not isinstance(codec.get("name"), str) or codec["name"] not in _CODECS:
            raise ValueError(f"it asks for the codec {str(codec.get('name'))[:40]}")
        settings = codec.get("configuration", {})
        if isinstance(settings, dict):
            for inner in ("codecs", "index_codecs"):
                if inner in settings:
                    _check_codecs(settings[inner], depth + 1)


def _shape(value: Any, least: int) -> tuple[int, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= 8:
        raise ValueError("its shape is not a list of numbers")
    if not all(isinstance(n, int) and not isinstance(n, bool) and least <= n < 2**40 for n in value):
        raise ValueError(f"its shape is {str(value)[:60]}")
    return tuple(value)
