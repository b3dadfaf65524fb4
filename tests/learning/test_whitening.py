"""Whitening: isotropic scatter within subjects, nothing else changed, and not part of the losses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anatograph.learning.model.config import MODEL_PRESETS
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import load_model, save_model
from anatograph.learning.model.graphs import make_graphs
from anatograph.learning.model.whitening import whitening


def test_whitened_regions_of_a_subject_scatter_isotropically() -> None:
    random = np.random.default_rng(0)
    mixing = np.linalg.qr(random.normal(size=(12, 12)))[0] * np.linspace(1, 6, 12)
    nodes = random.normal(size=(40, 50, 12)) @ mixing
    nodes += random.normal(size=(50, 12)) * 5 + random.normal(size=(40, 1, 12)) * 3  # landmarks and subjects differ
    nodes[4, 7] = np.nan
    matrix = whitening(nodes)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    rows = nodes @ matrix
    rows -= np.nanmean(rows, axis=0)
    rows -= np.nanmean(rows, axis=1, keepdims=True)
    flat = rows.reshape(-1, 12)
    covariance = np.cov(flat[np.isfinite(flat).all(axis=1)].T, bias=True)
    np.testing.assert_allclose(covariance, np.eye(12), atol=0.02)
    half = whitening(nodes, 0.5)  # applied twice, exponent 0.5 is exponent 1
    np.testing.assert_allclose(half @ half, matrix, atol=1e-9)
    np.testing.assert_allclose(whitening(nodes, 0.0), np.eye(12), atol=1e-12)


def test_features_that_are_constant_stay_finite() -> None:
    assert np.isfinite(whitening(np.zeros((3, 4, 5)))).all()
    assert np.isfinite(whitening(np.full((1, 4, 5), 2.0))).all()


def test_embeddings_are_the_nodes_times_the_matrix_and_the_loss_sees_none_of_it(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).random((6, 3))
    plain = Model(MODEL_PRESETS["paper"], codes).eval()
    model = Model(replace(MODEL_PRESETS["paper"], whiten=1.0), codes).eval()
    model.load_state_dict(plain.state_dict() | {"whitening": torch.randn(128, 128)})
    assert model.whitening is not None
    h, graphs = torch.randn(2, 6, 128), make_graphs([[(0, 1)], [(2, 3), (3, 4)]], 6)
    torch.testing.assert_close(model.node_features(h, graphs), plain.node_features(h, graphs) @ model.whitening)
    torch.testing.assert_close(
        model.subject_features(h, graphs), plain.subject_features(h, graphs) @ model.whitening, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(model.subject_projection(h, graphs), plain.subject_projection(h, graphs))


@pytest.mark.parametrize("whiten", [0.5, 0.0])
def test_the_matrix_is_kept_with_the_weights(tmp_path: Path, whiten: float) -> None:
    from anatograph.anatomy.atlas import default_atlas

    atlas = default_atlas()
    model = Model(replace(MODEL_PRESETS["paper"], whiten=whiten), atlas.location_codes)
    if model.whitening is not None:
        model.whitening.copy_(torch.randn(128, 128))
    save_model(model, tmp_path / "model", atlas, {}, {})
    loaded = load_model(tmp_path / "model")
    if model.whitening is None:
        assert loaded.whitening is None
    else:
        torch.testing.assert_close(loaded.whitening, model.whitening, atol=0, rtol=0)
