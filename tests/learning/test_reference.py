"""The published checkpoints: the published numbers come out, and anything else is refused."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anatograph.anatomy.atlas import Atlas, atlas_from_corners, build_atlas
from anatograph.errors import UserError
from anatograph.imaging.volume import Frame, Mask
from anatograph.learning.model.config import MODEL_PRESETS
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import load_model
from anatograph.learning.model.graphs import make_graphs
from anatograph.learning.model.published import import_checkpoints, read_reference

STAGES = ("", "downsample1", "downsample2", "downsample3", "")


def box_atlas() -> Atlas:
    lungs = np.ones((40, 60, 60), dtype=np.uint8)
    return build_atlas(Mask(lungs, Frame(lungs.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))))


def published_names(model: Model) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Our weights under the published names, written down from a listing of the published checkpoints."""
    patch, graph = {}, {}
    for name, value in model.state_dict().items():
        if found := re.fullmatch(r"encoder\.stages\.(\d)\.(\d)\.(conv|norm)\.(\w+)", name):
            stage, layer, kind, tensor = int(found[1]), int(found[2]), found[3], found[4]
            if STAGES[stage]:
                patch[f"{STAGES[stage]}.{3 * layer + (kind == 'norm')}.{tensor}"] = value
            else:
                patch[f"{'conv' if kind == 'conv' else 'bn'}{layer + 1 + 2 * (stage == 4)}.{tensor}"] = value
        elif found := re.fullmatch(r"(projection|graph_projection)\.layers\.(\d)\.(\w+)", name):
            (patch if found[1] == "projection" else graph)[f"fc.{2 * int(found[2])}.{found[3]}"] = value
        elif name.startswith("graph.norm."):
            graph["bn1.module." + name.removeprefix("graph.norm.")] = value
        else:
            graph[{"graph.weight": "conv1.lin.weight", "graph.bias": "conv1.bias"}[name]] = value
    return patch, graph


def write(path: Path, state: dict[str, torch.Tensor], prefix: str = "module.encoder_q.") -> Path:
    torch.save({"epoch": 1, "state_dict": {prefix + name: value for name, value in state.items()}}, path)
    return path


@pytest.fixture(scope="module")
def published() -> Model:
    torch.manual_seed(7)
    return Model(MODEL_PRESETS["reference"], box_atlas().location_codes)


@pytest.fixture
def files(published: Model, tmp_path: Path) -> tuple[Path, Path]:
    patch, graph = published_names(published)
    return write(tmp_path / "patch.pth.tar", patch), write(tmp_path / "graph.pth.tar", graph)


def test_conformance(shared: Path, tmp_path: Path) -> None:
    folder = shared / "conformance"
    graph_file, expected = np.load(folder / "adjacency.npz"), np.load(folder / "network_outputs.npz")
    atlas = atlas_from_corners(shared / "data/registration/atlas_lungs.nii.gz", graph_file["landmarks_voxel"])
    np.testing.assert_allclose(atlas.location_codes, expected["landmark_code"], atol=1e-6)
    import_checkpoints(
        folder / "checkpoint_patch_0001.pth.tar", folder / "checkpoint_graph_0001.pth.tar", tmp_path / "model", atlas
    )
    model = load_model(tmp_path / "model")
    assert model.config == MODEL_PRESETS["reference"]
    coarse = torch.from_numpy(expected["hu_coarse"])[:, None]
    hu = F.interpolate(coarse, size=(32, 32, 32), mode="trilinear", align_corners=True)[:, 0] * 250 - 700
    windowed = (hu.clamp(-1024, 240) + 1024) / 632 - 1

    embedding = model.embed(windowed.numpy(), graph_file["edges"])
    rows = expected["projected_rows"]
    np.testing.assert_allclose(embedding.patch_features, expected["encoder_features"], atol=1e-5)
    np.testing.assert_allclose(embedding.nodes[rows], expected["node_features"], atol=1e-5)
    np.testing.assert_allclose(embedding.subject, expected["subject_feature"], atol=1e-5)
    with torch.inference_mode():
        features = torch.from_numpy(embedding.patch_features)
        projected = model.project(features[rows], model.location_codes[rows])
        subject = model.subject_projection(features[None], make_graphs([graph_file["edges"]], 581))
    np.testing.assert_allclose(projected.numpy(), expected["projected"], atol=1e-5)
    np.testing.assert_allclose(subject.numpy(), expected["subject_projection"], atol=1e-5)


def test_every_tensor_arrives_where_it_belongs(files: tuple[Path, Path], published: Model, tmp_path: Path) -> None:
    import_checkpoints(*files, tmp_path / "model", box_atlas())
    model = load_model(tmp_path / "model")
    for name, value in published.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_single_gpu_checkpoint_and_old_graph_names_are_read(published: Model, tmp_path: Path) -> None:
    patch, graph = published_names(published)
    graph["conv1.weight"] = graph.pop("conv1.lin.weight").T
    graph = {name.replace("bn1.module.", "bn1."): value for name, value in graph.items()}
    first = write(tmp_path / "p", patch, "encoder_q.")
    model, note = read_reference(first, write(tmp_path / "g", graph, "encoder_q."), box_atlas())
    assert note == ""
    assert all(torch.equal(value, published.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("layers", [1, 3])
def test_heads_of_other_lengths_are_recognised(layers: int, published: Model, tmp_path: Path) -> None:
    patch, graph = published_names(published)
    if layers == 1:  # trained without --mlp
        for state in (patch, graph):
            for tensor in ("weight", "bias"):
                state[f"fc.{tensor}"] = state.pop(f"fc.2.{tensor}")
                del state[f"fc.0.{tensor}"]
    else:
        for state in (patch, graph):
            for tensor in ("weight", "bias"):
                state[f"fc.4.{tensor}"] = state[f"fc.2.{tensor}"]
                state[f"fc.2.{tensor}"] = state[f"fc.0.{tensor}"].clone()
    model, _ = read_reference(write(tmp_path / "p", patch), write(tmp_path / "g", graph), box_atlas())
    assert (model.config.projection_layers, model.config.graph_projection_layers) == (layers, layers)


def test_another_number_of_landmarks_is_said(published: Model, files: tuple[Path, Path], tmp_path: Path) -> None:
    content = torch.load(files[0], weights_only=True)
    content["state_dict"]["module.queue"] = torch.zeros(128, 8, 581)
    torch.save(content, files[0])
    with pytest.warns(UserWarning, match="trained on 581 landmarks, but the atlas given has"):
        import_checkpoints(*files, tmp_path / "model", box_atlas())
    assert "trained on 581 landmarks" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("bomb-went-off"),))


def test_wrong_files_are_refused_in_plain_words(files: tuple[Path, Path], tmp_path: Path, published: Model) -> None:
    patch, graph = files
    atlas = box_atlas()

    def refused(first: Path, second: Path, message: str) -> None:
        with pytest.raises(UserError, match=message):
            import_checkpoints(first, second, tmp_path / "model", atlas)
        assert not (tmp_path / "model").exists()

    refused(graph, patch, "this is the graph checkpoint")
    refused(patch, patch, "this is the patch checkpoint")
    refused(tmp_path / "missing", graph, "does not exist")
    (tmp_path / "text").write_text("not a checkpoint")
    refused(tmp_path / "text", graph, "not a PyTorch checkpoint")
    torch.save([1, 2], tmp_path / "list")
    refused(tmp_path / "list", graph, "has no state_dict")
    refused(write(tmp_path / "other", {"layer.weight": torch.ones(1)}), graph, "is not a published patch network")

    tensors, _ = published_names(published)
    less = {name: value for name, value in tensors.items() if name != "bn3.running_var"}
    refused(write(tmp_path / "less", less), graph, "lacks bn3.running_var")
    refused(write(tmp_path / "more", tensors | {"conv5.weight": torch.ones(1)}), graph, "has conv5.weight")
    shaped = tensors | {"conv2.weight": torch.zeros(9, 8, 3, 3, 3)}
    refused(write(tmp_path / "shape", shaped), graph, r"encoder.stages.0.1.conv.weight has shape \(9, 8, 3, 3, 3\)")
    nan = tensors | {"conv2.bias": torch.full((8,), float("nan"))}
    refused(write(tmp_path / "nan", nan), graph, "not finite")


def test_nothing_in_a_checkpoint_can_run(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "bomb.pth.tar").open("wb") as file:
        pickle.dump({"state_dict": Bomb()}, file)
    torch.save({"state_dict": Bomb()}, tmp_path / "zipped.pth.tar")
    for name in ("bomb.pth.tar", "zipped.pth.tar"):
        with pytest.raises(UserError, match="not a PyTorch checkpoint that can be read safely"):
            import_checkpoints(tmp_path / name, files[1], tmp_path / "model", box_atlas())
    assert not (tmp_path / "bomb-went-off").exists()
