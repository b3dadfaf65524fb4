"""Subjects' vectors from stored regions, pooled again; no network runs and nothing is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from anatograph.choices import PoolingRule
from anatograph.embedding.regions import Regions
from anatograph.embedding.result import Embedded
from anatograph.embedding.reuse import same_file
from anatograph.embedding.table import beside, parquet_path, read_embeddings, write_embeddings
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.execution.files import write_text
from anatograph.learning.model.pooling import PoolingSettings


def pool(
    embeddings: str | Path,
    out: str | Path,
    *,
    pooling: PoolingRule = "harmonics",
    harmonics: int = PoolingSettings.harmonics,
) -> Embedded:
    """Pool the regions of embeddings again: S'_m = mean over j of a_m(j) h'_j (see docs/pooling.md).

    Args:
        embeddings: a table that `embed` wrote, of this version or an earlier one, with its regions beside it.
        out: ``OUT`` of the new files; may be the same table, which is then replaced.
        pooling: how regions become a subject's vector.
        harmonics: parts of the vector where ``pooling`` is harmonics, the mean included.

    Raises:
        UserError: no regions beside the table, or regions of other subjects.
    """
    table, path = read_embeddings(embeddings), parquet_path(out)
    store = beside(parquet_path(embeddings), "regions")
    regions = Regions(store)
    strange = sorted(set(table.subject_ids) - set(regions.subject_ids))
    if strange:
        raise UserError(f"{store} has no regions of {', '.join(strange[:5])}; embed the study again.")
    functions = regions.pooling(PoolingSettings(pooling, harmonics))
    settings = {"embeddings": str(embeddings), "pooling": pooling, "harmonics": harmonics}
    with RunAccount("pool", settings, path) as account:
        features = np.stack([functions.pool(regions.of(name)) for name in table.subject_ids]).astype(np.float32)
        _copy(store, beside(path, "regions"))
        about = {
            **table.about,
            "features": features.shape[1],
            "pooling": functions.about(regions.shape[2], table.parts.learnt),
        }
        write_embeddings(path, table.subject_ids, features, about)
        account.output(path)
        account.result(subjects=len(table.subject_ids), features=features.shape[1], parts=functions.parts)
    landmarks = np.asarray(regions.attributes.get("landmarks", np.zeros((0, 3))), dtype=np.float64)
    return Embedded(table.subject_ids, features, landmarks, None, path, account)


def _copy(store: Path, place: Path) -> None:
    """The store under another name, its chunks as second names of the same files where the disk can.

    The copy no longer says which run made it, so that `embed` does not take its table for that run's.
    """
    if place.resolve() != store.resolve():
        shutil.rmtree(place, ignore_errors=True)
        for file in sorted(file for file in store.rglob("*") if file.is_file() and file.name != "zarr.json"):
            same_file(file, place / file.relative_to(store))
    about = json.loads((store / "zarr.json").read_text(encoding="utf-8"))
    about["attributes"]["made_from"] = ""
    write_text(place / "zarr.json", json.dumps(about, indent=2) + "\n")
