"""Lungs by networks: the real loading code on weights made here, and the choice among methods."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from anatograph.errors import UserError
from anatograph.imaging.lungs import networks, segment_lungs
from anatograph.imaging.lungs.choose import WEIGHTS_VARIABLE
from anatograph.imaging.volume import Frame, Mask, Volume

needs_lungmask = pytest.mark.skipif(importlib.util.find_spec("lungmask") is None, reason="lungmask is not installed")


@pytest.fixture(scope="module")
def chest() -> Volume:
    """Two lungs in a body, eight slices, so that a network is quick."""
    z, y, x = np.meshgrid(
        np.linspace(-140, 140, 8), np.linspace(-130, 130, 64), np.linspace(-190, 190, 80), indexing="ij"
    )
    hu = np.full(z.shape, -1000.0)
    hu[(x / 170) ** 2 + (y / 120) ** 2 < 1] = 40
    for sign in (-1, 1):
        hu[((x - sign * 75) / 58) ** 2 + (y / 85) ** 2 + (z / 130) ** 2 < 1] = -850
    hu += np.random.default_rng(0).normal(0, 15, z.shape)
    array = np.clip(hu, -1024, None).round().astype(np.int16)
    return Volume(array, Frame((8, 64, 80), (4.8, 4.1, 40.0), (-190.0, -130.0, -140.0)), source="a small chest")


def write_weights(path: Path, classes: int, favoured: int) -> Path:
    """A state dict in the layout of R231, silent except for one class."""
    from lungmask.resunet import UNet

    torch.manual_seed(0)
    model = UNet(n_classes=classes, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    state = model.state_dict()
    state["last.weight"] = torch.zeros_like(state["last.weight"])
    state["last.bias"] = torch.nn.functional.one_hot(torch.tensor(favoured), classes).float()
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("lungmask") is None:
        pytest.skip("lungmask is not installed")
    return write_weights(tmp_path_factory.mktemp("weights") / "unet.pth", 3, 2)


def test_lungmask_runs_from_a_file(chest: Volume, weights: Path) -> None:
    result = segment_lungs(chest, "lungmask", weights)
    assert result.method == "lungmask"
    assert result.mask.frame.same_grid(chest.frame)
    assert set(np.unique(result.mask.array)) == {0, Mask.LEFT}
    body = chest.array > -500
    assert (result.mask.lungs & body).sum() > 0.9 * body.sum()
    assert any("unet.pth" in note for note in result.notes)


def test_lungmask_is_loaded_once_for_all_scans_of_a_process(weights: Path) -> None:
    seen: list[str] = []
    on = True
    sys.addaudithook(lambda event, args: seen.append(str(args[0])) if on and event == "open" else None)
    networks._inferer.cache_clear()
    first = networks._inferer(weights, 1)
    loads = seen.count(str(weights))
    assert loads > 0
    assert networks._inferer(weights, 1) is first
    assert seen.count(str(weights)) == loads
    assert networks._inferer(weights, 2) is not first  # the file is another
    on = False


def test_auto_falls_back_when_a_network_is_implausible(chest: Volume, weights: Path) -> None:
    """The weights call the whole body lung, which no lung's density is."""
    result = segment_lungs(chest, "auto", weights)
    assert result.method == "threshold"
    assert any("fell back to threshold: lungmask gave" in note for note in result.notes)
    assert set(np.unique(result.mask.array)) == {0, 1, 2}


def test_auto_without_weights_says_why(chest: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    result = segment_lungs(chest)
    assert result.method == "threshold"
    assert result.notes[0] == "auto chose threshold: no weights for a network were given"


@needs_lungmask
def test_auto_takes_weights_from_the_environment(
    chest: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "gone.pth"))
    result = segment_lungs(chest)
    assert result.method == "threshold"
    assert any("gone.pth" in note for note in result.notes)


@needs_lungmask
def test_lungmask_refuses_what_is_not_its_weights(chest: Volume, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs its weights by path"):
        segment_lungs(chest, "lungmask")
    with pytest.raises(UserError, match="no lungmask weights file"):
        segment_lungs(chest, "lungmask", tmp_path / "none.pth")
    text = tmp_path / "text.pth"
    text.write_text("not weights")
    with pytest.raises(UserError, match="cannot be read as a state dict"):
        segment_lungs(chest, "lungmask", text)
    foreign = tmp_path / "foreign.pth"
    torch.save({"layer.bias": torch.zeros(3)}, foreign)
    with pytest.raises(UserError, match="not a state dict of lungmask's U-Net"):
        segment_lungs(chest, "lungmask", foreign)
    lobes = tmp_path / "lobes.pth"
    torch.save({"layer.bias": torch.zeros(6)}, lobes)
    with pytest.raises(UserError, match="6 classes"):
        segment_lungs(chest, "lungmask", lobes)


def test_totalsegmentator_names_package_and_weights(chest: Volume, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="weights folder by path"):
        segment_lungs(chest, "totalsegmentator")
    with pytest.raises(UserError, match="no folder of TotalSegmentator weights"):
        segment_lungs(chest, "totalsegmentator", tmp_path / "none")
    if importlib.util.find_spec("totalsegmentator") is None:
        with pytest.raises(UserError, match=r"anatograph\[totalsegmentator\]"):
            segment_lungs(chest, "totalsegmentator", tmp_path)
        result = segment_lungs(chest, "auto", tmp_path)
        assert result.method == "threshold"
        assert "totalsegmentator is not installed" in result.notes[0]


def test_unknown_method(chest: Volume) -> None:
    with pytest.raises(UserError, match="Unknown lung method 'magic'"):
        segment_lungs(chest, "magic")  # type: ignore[arg-type]
