"""The whole model: what embed promises, and where gradients may go."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.learning.contrast.info_nce import InfoNCE
from anatograph.learning.contrast.momentum import key_copy
from anatograph.learning.contrast.queues import KeyQueue
from anatograph.learning.model.config import MODEL_PRESETS, ModelConfig
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.graphs import make_graphs
from anatograph.learning.model.windowing import window

LANDMARKS = 11
CODES = np.random.default_rng(0).random((LANDMARKS, 3)).astype(np.float32)
EDGES = np.array([(0, 1), (1, 2), (2, 3), (5, 6), (8, 10)])


def scans(count: int = LANDMARKS, side: int = 16, seed: int = 1) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-1100, 400, (count, side, side, side)).astype(np.int16)


def small(**settings: object) -> Model:
    torch.manual_seed(0)
    return Model(dataclasses.replace(ModelConfig(patch_size=16), **settings), CODES)  # type: ignore[arg-type]


def test_embed_repeats_bit_by_bit_and_leaves_the_model_as_it_was() -> None:
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, two = model.embed(scans(), EDGES), model.embed(scans(), EDGES)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert one.subject.shape == (128,)
    assert one.nodes.shape == one.patch_features.shape == (LANDMARKS, 128)
    np.testing.assert_allclose(one.subject, one.nodes.mean(0), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 11])
def test_embed_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    model = small()
    for one, other in zip(model.embed(scans(), EDGES), model.embed(scans(), EDGES, None, batch_size), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_absent_landmarks_are_nan_and_touch_nothing_else() -> None:
    model = small()
    present = np.ones(LANDMARKS, dtype=bool)
    present[[1, 9]] = False
    spoiled = scans()
    spoiled[~present] = 30000
    one, two = model.embed(scans(), EDGES, present), model.embed(spoiled, EDGES, present)
    assert np.array_equal(one.subject, two.subject)
    assert np.array_equal(np.isnan(one.nodes).any(1), ~present)
    assert np.array_equal(np.isnan(one.patch_features).any(1), ~present)
    np.testing.assert_allclose(one.subject, one.nodes[present].mean(0), atol=1e-6)
    with pytest.raises(ValueError, match="none of the subject's landmarks"):
        model.embed(scans(), EDGES, ~np.ones(LANDMARKS, dtype=bool))


def test_integers_are_hu_and_floats_are_windowed_already() -> None:
    model = small()
    hu = scans()
    windowed = window(torch.from_numpy(hu)).numpy()
    assert np.array_equal(model.embed(hu, EDGES).subject, model.embed(windowed, EDGES).subject)


def test_window_is_monai_scale_intensity_range() -> None:
    transforms = pytest.importorskip("monai.transforms")
    hu = torch.tensor([-3000, -1024, -1023, -700, 0, 239, 240, 3000])
    theirs = transforms.ScaleIntensityRange(-1024, 240, -1, 1, clip=True)(hu.float())
    torch.testing.assert_close(window(hu), torch.as_tensor(np.asarray(theirs)), atol=1e-6, rtol=0)
    kept = hu.float().clone()
    window(kept)
    assert torch.equal(kept, hu.float())


def test_ablations_and_choices_do_what_their_names_say() -> None:
    hu = torch.from_numpy(scans())
    codes = torch.from_numpy(CODES)
    with torch.no_grad():
        without_code = small(conditional=False).eval()
        assert torch.equal(without_code.patch_features(hu, codes), without_code.patch_features(hu, codes * 0))
        with_code = small().eval()
        assert not torch.allclose(with_code.patch_features(hu, codes), with_code.patch_features(hu, codes * 0))
        fed_by_c = small(graph_input="encoder").eval()
        assert torch.equal(fed_by_c.patch_features(hu, codes), fed_by_c.encode(hu))
    without_graph = small(graph=False)
    embedding = without_graph.embed(scans(), EDGES)
    assert without_graph.graph is None
    assert np.array_equal(embedding.nodes, embedding.patch_features)
    assert np.array_equal(embedding.subject, without_graph.embed(scans(), EDGES[:0]).subject)
    assert not np.allclose(small().embed(scans(), EDGES).subject, small().embed(scans(), EDGES[:0]).subject)


def test_patch_loss_moves_the_conditional_encoder_alone() -> None:
    model = small().train()
    key_encoder = key_copy(model)
    hu, codes = torch.from_numpy(scans()), torch.from_numpy(CODES)
    key = key_encoder.contrast_features(hu, codes)
    assert not key.requires_grad
    query = model.contrast_features(hu, codes)
    queue = KeyQueue(1, LANDMARKS, key.shape[1])
    queue.enqueue(key, torch.arange(LANDMARKS))
    InfoNCE()(query, key, torch.arange(LANDMARKS), None, queue).loss.backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"encoder", "projection"}
    assert all(p.grad is None for p in key_encoder.parameters())


def test_graph_loss_does_not_reach_the_conditional_encoder() -> None:
    model = small().train()
    with torch.no_grad():  # the graph stage freezes E (Algorithm 1)
        h = model.patch_features(torch.from_numpy(scans()), torch.from_numpy(CODES))
    h = torch.stack([h, h.flip(0), h.roll(1, 0)])
    graphs = make_graphs([EDGES] * 3, LANDMARKS)
    query, key = model.subject_projection(h, graphs), key_copy(model).subject_projection(h, graphs)
    queue = KeyQueue(1, 3, key.shape[1])
    queue.enqueue(key, torch.arange(3))
    InfoNCE()(query, key, torch.arange(3), None, queue).loss.backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {"graph", "graph_projection"}


def test_settings_survive_json_and_unknown_ones_are_refused_with_the_nearest_name() -> None:
    for preset in MODEL_PRESETS.values():
        assert ModelConfig.from_dict(json.loads(json.dumps(preset.to_dict()))) == preset
    assert MODEL_PRESETS["paper"] == ModelConfig()
    with pytest.raises(UserError, match="did you mean 'feature_size'"):
        ModelConfig.from_dict({"feature_sise": 64})
    with pytest.raises(UserError, match="one of batch, group, none"):
        ModelConfig.from_dict({"norm": "layer"})
    with pytest.raises(UserError, match="must be a whole number"):
        ModelConfig.from_dict({"feature_size": "many"})


def test_wrong_shapes_are_named() -> None:
    model = small()
    with pytest.raises(ValueError, match="not \\(B, 16, 16, 16\\)"):
        model.embed(scans(side=12), EDGES)
    with pytest.raises(ValueError, match="11 landmarks"):
        model.embed(scans(5), EDGES)
    with pytest.raises(ValueError, match="location codes"):
        Model(ModelConfig(), CODES[:, :2])
