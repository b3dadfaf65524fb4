"""A small study, model and store of regions, whose files are then changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anatograph.anatomy.atlas import build_atlas, save_atlas
from anatograph.embedding.regions import Regions
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import save_model
from anatograph.study.prepare import prepare_subject
from anatograph.study.settings import PreprocessSettings
from anatograph.study.store import Study
from hostile.material import person


@pytest.fixture(scope="session")
def small_things(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders by kind: ``atlas``, ``study``, ``subject``, ``model``, ``regions``."""
    import zarr

    folder = tmp_path_factory.mktemp("small")
    atlas = build_atlas(person().lungs, patch_size=8, step=60)
    save_atlas(atlas, folder / "atlas")
    study = Study.create(folder / "study", atlas, PreprocessSettings())
    study.write_subject(prepare_subject(person().volume, person().lungs, atlas, subject_id="p1"))
    config = ModelConfig(feature_size=8, patch_size=8, pooling="mean_std")
    save_model(Model(config, atlas.location_codes), folder / "model", atlas, preprocessing={})
    array = zarr.create_array(store=str(folder / "regions.zarr"), shape=(2, 3, 4), chunks=(1, 3, 4), dtype="float32")
    array[:] = np.ones((2, 3, 4), np.float32)
    array.attrs.update({"subject_ids": ["p1", "p2"]})
    assert Regions(folder / "regions.zarr").shape == (2, 3, 4)
    return {
        "atlas": folder / "atlas",
        "study": folder / "study",
        "subject": folder / "study" / "subjects" / "p1",
        "model": folder / "model",
        "regions": folder / "regions.zarr",
    }
