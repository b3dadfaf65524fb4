"""Weights in the layout that their authors publish: every tensor accounted for, and the function theirs."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_cohort import SUBJECTS
from torch import Tensor

from anatograph.baselines.method import Scans
from anatograph.baselines.methods.medicalnet import MedicalNet
from anatograph.baselines.methods.models_genesis import ModelsGenesis
from anatograph.baselines.networks.genesis_network import GenesisUNet
from anatograph.baselines.networks.published_weights import load_weights, read_weights
from anatograph.baselines.networks.resnets import resnet
from anatograph.errors import UserError

WIDTHS = (4, 8, 8, 16)


def published_resnet(depth: int, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under the names of MedicalNet's files: data-parallel, with the head of the segmentation."""
    torch.manual_seed(seed)
    bottleneck, kind_a = depth == 50, depth in (18, 34)
    blocks = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
    tensors: dict[str, Tensor] = {}

    def convolution(name: str, inputs: int, outputs: int, side: int) -> None:
        tensors[f"{name}.weight"] = torch.randn(outputs, inputs, side, side, side) / (inputs * side**3) ** 0.5

    def norm(name: str, width: int) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = 1 + 0.1 * torch.randn(width), 0.1 * torch.randn(width)
        tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"] = (
            0.1 * torch.randn(width),
            1 + torch.rand(width),
        )

    convolution("conv1", 1, WIDTHS[0], 7)
    norm("bn1", WIDTHS[0])
    inputs = WIDTHS[0]
    for stage, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True), start=1):
        outputs = width * 4 if bottleneck else width
        for block in range(count):
            name = f"layer{stage}.{block}"
            shapes = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)]
            for k, (i, o, side) in enumerate(
                shapes if bottleneck else [(inputs, width, 3), (width, width, 3)], start=1
            ):
                convolution(f"{name}.conv{k}", i, o, side)
                norm(f"{name}.bn{k}", o)
            if block == 0 and not kind_a and (stage > 1 or inputs != outputs):
                convolution(f"{name}.downsample.0", inputs, outputs, 1)
                norm(f"{name}.downsample.1", outputs)
            inputs = outputs
    tensors["conv_seg.0.weight"] = torch.randn(inputs, 32, 2, 2, 2)
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def published_forward(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """Their network in plain functions: stages 3 and 4 are dilated, not strided."""
    t = {name.removeprefix("module."): value for name, value in tensors.items()}

    def norm(name: str, y: Tensor) -> Tensor:
        return F.batch_norm(y, *(t[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))

    y = F.max_pool3d(F.relu(norm("bn1", F.conv3d(x, t["conv1.weight"], stride=2, padding=3))), 3, 2, 1)
    for stage, stride, dilation in ((1, 1, 1), (2, 2, 1), (3, 1, 2), (4, 1, 4)):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in t:
            name, strides = f"layer{stage}.{block}", stride if block == 0 else 1
            same, z, k = y, y, 1
            strided = 2 if f"{name}.conv3.weight" in t else 1  # which of the convolutions takes the stride
            while f"{name}.conv{k}.weight" in t:
                weight = t[f"{name}.conv{k}.weight"]
                spread = dilation if weight.shape[-1] == 3 else 1
                z = F.conv3d(
                    z, weight, stride=strides if k == strided else 1,
                    padding=spread if weight.shape[-1] == 3 else 0, dilation=spread,
                )  # fmt: skip
                z, k = norm(f"{name}.bn{k}", z), k + 1
                z = F.relu(z) if f"{name}.conv{k}.weight" in t else z
            if f"{name}.downsample.0.weight" in t:
                same = norm(f"{name}.downsample.1", F.conv3d(y, t[f"{name}.downsample.0.weight"], stride=strides))
            elif same.shape != z.shape:
                same = same[:, :, ::strides, ::strides, ::strides]
                same = F.pad(same, (0, 0, 0, 0, 0, 0, 0, z.shape[1] - same.shape[1]))
            y, block = F.relu(z + same), block + 1
    return y.mean(dim=(2, 3, 4))


@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_medicalnet_computes_what_its_authors_network_does(depth: int, tmp_path: Path) -> None:
    tensors = published_resnet(depth)
    torch.save({"state_dict": tensors}, tmp_path / "resnet.pth")
    network = MedicalNet(tmp_path / "resnet.pth").network(10, 0)
    x = torch.randn(2, 1, 32, 32, 32)
    with torch.inference_mode():
        found, expected = network(x), published_forward(tensors, x)
    assert expected.shape == found.shape == (2, WIDTHS[3] * (4 if depth == 50 else 1))
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_every_tensor_is_accounted_for(tmp_path: Path) -> None:
    tensors, file = published_resnet(10), tmp_path / "resnet_10.pth"
    faults = {
        "missing": {k: v for k, v in tensors.items() if k != "module.layer2.0.bn1.running_var"},
        "unexpected": {**tensors, "module.layer9.bias": torch.zeros(1)},
        "of another shape": {**tensors, "module.bn1.weight": torch.ones(7)},
    }
    for what, content in faults.items():
        torch.save({"state_dict": content}, file)
        with pytest.raises(UserError, match=what) as caught:
            MedicalNet(file).network(10, 0)
        assert any(name in str(caught.value) for name in ("layer2.0.bn1.running_var", "layer9.bias", "bn1.weight is"))
    torch.save(tensors, file)  # without the dictionary about it
    method = MedicalNet(file)
    method.network(10, 0)
    assert method.note == "ResNet-10, weights of resnet_10.pth"
    left = load_weights(resnet(10, WIDTHS), read_weights(file), file, ("conv_seg.",))
    assert left == ["conv_seg.0.weight"]


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return open, ("harm.txt",)


def test_files_that_are_no_weights_are_refused_and_nothing_in_them_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "harm.txt").write_text("")
    with (tmp_path / "harm.pth").open("wb") as file:
        pickle.dump({"state_dict": Harm()}, file)
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "stranger.pth")
    for name, reason in (
        ("harm", "cannot be read as weights"),
        ("text", "cannot be read as weights"),
        ("other", "holds no named tensors"),
        ("none", "There is no weights file"),
        ("stranger", "tensors of a MedicalNet"),
    ):
        with pytest.raises(UserError, match=reason):
            MedicalNet(tmp_path / f"{name}.pth").network(10, 0)
    with pytest.raises(UserError, match="tensors of a Models Genesis"):
        ModelsGenesis(tmp_path / "stranger.pth")._published()


def test_without_weights_medicalnet_runs_only_when_asked_to_and_says_so(scans: Scans) -> None:
    with pytest.raises(UserError, match=r"authors' weights.*--allow-random"):
        MedicalNet(progress=False).embed(scans)
    method = MedicalNet(allow_random=True, progress=False)
    assert method.note == "random weights"


def test_medicalnet_features_of_a_cohort_are_kept_and_follow_the_weights(scans: Scans, tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        file = tmp_path / f"{seed}.pth"
        torch.save(published_resnet(10, seed), file)
        import anatograph.baselines.methods.medicalnet as module

        module.SIZE["quick"], before = 32, module.SIZE["quick"]
        try:
            found.append(MedicalNet(file, progress=False).embed(scans))
        finally:
            module.SIZE["quick"] = before
    assert found[0].shape == (SUBJECTS, WIDTHS[3])
    assert np.isfinite(found[0]).all()
    assert not np.allclose(found[0], found[1])
    assert found[0].std(axis=0).max() > 0  # subjects differ


def test_models_genesis_weights_in_the_authors_layout(scans: Scans, tmp_path: Path) -> None:
    network = GenesisUNet(4)
    names = set(network.state_dict())
    # As in the authors' file, whose decoder is left in place.
    for name in (
        "down_tr64.ops.0.conv1.weight", "down_tr64.ops.1.bn1.running_mean", "down_tr512.ops.1.conv1.bias",
        "up_tr256.up_conv.weight", "up_tr64.ops.1.bn1.weight", "out_tr.final_conv.bias",
    ):  # fmt: skip
        assert name in names
    assert sum(p.numel() for p in GenesisUNet().parameters()) == 19_073_665  # the published network's
    torch.save(
        {"epoch": 7, "state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "g.pt"
    )
    method = ModelsGenesis(tmp_path / "g.pt", progress=False)
    torch.testing.assert_close(method._published().state_dict(), network.state_dict())
    features, regions = method.embed(scans), method.regions(scans)
    assert features.shape == (SUBJECTS, 64)
    np.testing.assert_allclose(features, np.nanmean(regions, axis=1), rtol=1e-5)
    assert "g.pt" in method.note
    broken = {f"module.{k}": v for k, v in network.state_dict().items() if "out_tr" not in k}
    torch.save({"state_dict": broken}, tmp_path / "broken.pt")
    with pytest.raises(UserError, match=r"2 missing \(out_tr"):
        ModelsGenesis(tmp_path / "broken.pt")._published()
