"""Checkpoints: whole or not there, exact, the last good ones kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anatograph.errors import UserError
from anatograph.learning.training.checkpoint import checkpoints, load_checkpoint, remove_unfinished, save_checkpoint


def state() -> dict[str, object]:
    layout = torch.randn(4, 3, 2, 2, 2).to(memory_format=torch.channels_last_3d)
    shared = torch.arange(6.0)
    return {
        "model": {"weight": layout, "half": torch.randn(3).half(), "whole": torch.tensor(7)},
        "optimiser": {"state": {0: {"momentum_buffer": shared}, 3: {"momentum_buffer": shared.view(2, 3)}}},
        "groups": [{"lr": 0.1 + 0.2, "betas": (0.9, 0.999), "nesterov": False, "name": None}],
        "empty": {},
    }


def test_what_goes_in_comes_out_to_the_bit(tmp_path: Path) -> None:
    given = state()
    save_checkpoint(tmp_path, 12, given)
    update, found = load_checkpoint(tmp_path) or (0, {})
    assert update == 12
    for name, value in given["model"].items():  # type: ignore[attr-defined]
        assert torch.equal(found["model"][name], value)
        assert found["model"][name].dtype == value.dtype
    assert set(found["optimiser"]["state"]) == {0, 3}  # numbers stay numbers
    assert found["groups"][0]["lr"] == 0.1 + 0.2
    assert found["groups"][0]["nesterov"] is False
    assert found["groups"][0]["name"] is None
    assert found["empty"] == {}


def test_old_ones_go_and_the_last_good_one_is_taken(tmp_path: Path) -> None:
    for update in (5, 10, 900, 10000):
        save_checkpoint(tmp_path, update, {"x": torch.tensor([float(update)])}, keep=2)
    assert [p.name for p in checkpoints(tmp_path)] == ["update_000000900.safetensors", "update_000010000.safetensors"]
    newest = checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-3])
    said: list[str] = []
    update, found = load_checkpoint(tmp_path, said.append) or (0, {})
    assert update == 900
    assert float(found["x"]) == 900.0
    assert "update_000010000" in said[0]
    checkpoints(tmp_path)[0].write_bytes(b"")
    with pytest.raises(UserError, match="none of the 2 checkpoints"):
        load_checkpoint(tmp_path)


def test_half_written_ones_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "update_000000003.safetensors.123.part").write_bytes(b"half")
    assert checkpoints(tmp_path) == []
    assert load_checkpoint(tmp_path) is None
    remove_unfinished(tmp_path)
    assert not list(tmp_path.iterdir())
    assert load_checkpoint(tmp_path / "nowhere") is None


def test_nothing_that_needs_pickle_is_held(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot hold"):
        save_checkpoint(tmp_path, 1, {"generator": torch.Generator()})
