"""Learnt features apart from the density histogram, and a location that modulates the encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_study import SmallStudy

from anatograph.learning.api import train
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import load_model
from anatograph.learning.model.graphs import make_graphs
from anatograph.learning.training.presets import build_settings

SMALL = (
    "patch_size=16", "feature_size=32", "lungs_only=false", "inflation=0", "patch_batch=8", "landmarks_per_batch=4",
    "graph_batch=4", "epochs=1",
    "patch_steps=4", "graph_rounds=3", "bank_views=2", "bank_draws=4", "recalibrate_batches=2", "smooth_low=4",
    "smooth_high=6", "workers=0", "device=cpu", "precision=fp32", "warmup=0", "learning_rate=0.01",
)  # fmt: skip
APART = ModelConfig(
    patch_size=16, feature_size=32, pooling="multiscale", density=True, density_in_contrast=False, graph_input="encoder"
)


def model_of(config: ModelConfig, study: SmallStudy) -> Model:
    torch.manual_seed(0)
    return Model(config, study.atlas.location_codes)


@pytest.mark.parametrize("graph_input", ["encoder", "projection"])
@pytest.mark.parametrize("graph", [True, False])
def test_the_histogram_reaches_regions_but_no_loss(graph_input: str, graph: bool) -> None:
    study = SmallStudy(3)
    model = model_of(replace(APART, graph_input=graph_input, graph=graph), study).eval()  # type: ignore[arg-type]
    hu, codes = torch.from_numpy(study.patches[0]), model.location_codes
    features = model.patch_features(hu, codes)
    assert model.config.parts == {"learnt": slice(0, 18), "density": slice(18, 32)}
    assert model.contrast_features(hu, codes).shape == (8, 18)
    histogram = model.encoder.density(model.windowed(hu))  # type: ignore[misc]
    torch.testing.assert_close(features[:, 18:], histogram)
    graphs = make_graphs([study.edges], 8)
    nodes = model.raw_nodes(features[None], graphs)
    torch.testing.assert_close(nodes[0, :, 18:], histogram)  # neither mixed with neighbours nor transformed
    changed = features.clone()
    changed[:, 18:] += 1.0
    one, two = (model.subject_projection(h[None], graphs) for h in (features, changed))
    assert torch.equal(one, two)
    assert one.shape == (1, 18)


def test_a_run_whitens_the_parts_separately_and_its_model_names_them(tmp_path: Path) -> None:
    settings = build_settings("quick", None, [*SMALL, "density_in_contrast=false", "bank_draws=1"])
    study = SmallStudy(6, absent=0.2)
    train(study, tmp_path / "run", settings, progress=False)
    model = load_model(tmp_path / "run" / "model")
    assert model.whitening is not None
    assert float(model.whitening[:18, 18:].abs().max()) == float(model.whitening[18:, :18].abs().max()) == 0.0
    assert float((model.whitening[:18, :18] - torch.eye(18)).abs().max()) > 0.1
    about = json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))
    assert about["features"] == {"learnt": [0, 18], "density": [18, 32]}
    embedding = model.embed(study.patches[0], study.edges, study.present[0])
    assert np.isfinite(embedding.subject).all()
    assert np.isnan(embedding.nodes[~study.present[0]]).all()


def test_a_model_of_before_reads_as_it_was_trained() -> None:
    """Without the newer settings the histogram takes part in the contrasts and the location in f_l only."""
    old = ModelConfig.from_dict({"density": True, "feature_size": 32, "patch_size": 16, "pooling": "multiscale"})
    assert (old.density_in_contrast, old.film, old.contrast_size) == (True, False, 32)


def test_location_modulates_the_encoder_once_trained(tmp_path: Path) -> None:
    """At first it does nothing; random codes then change the embedding, which they do not without modulation."""
    study = SmallStudy(6)
    fresh = model_of(replace(APART, film=True), study).eval()
    hu = torch.from_numpy(study.patches[0])
    assert torch.equal(fresh.encode(hu, fresh.location_codes), fresh.encode(hu, fresh.location_codes.flip(0)))
    changes = {}
    for film in (True, False):
        settings = build_settings("quick", None, [*SMALL, f"film={film}".lower(), "patch_steps=12"])
        run = tmp_path / str(film)
        train(study, run, settings, progress=False)
        model = load_model(run / "model")
        before = model.embed(study.patches[0], study.edges).subject
        model.location_codes = model.location_codes.flip(0)
        after = model.embed(study.patches[0], study.edges).subject
        changes[film] = float(np.linalg.norm(after - before) / np.linalg.norm(before))
    assert changes[False] == 0.0
    assert changes[True] > 1e-3
    with pytest.raises(ValueError, match="needs the location codes"):
        fresh.encode(hu)
