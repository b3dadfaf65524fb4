"""The embeddings that tests of explanations share."""

from __future__ import annotations

from pathlib import Path

import pytest

from anatograph.embedding.api import embed
from fixtures.small import Small


@pytest.fixture(scope="session")
def embedded(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded")
    embed(small.study, folder / "emb", model=small.model)
    return folder / "emb.parquet"
