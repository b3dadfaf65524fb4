"""Models by name: pushed to a hub that runs in the test, pulled from it, found offline, refused where damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from hub_server import HubServer
from safetensors.numpy import save
from test_model_folder import box_atlas

from anatograph import cli
from anatograph.errors import UserError
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import load_model, save_model
from anatograph.learning.releases.api import models, pull, push
from anatograph.learning.releases.hub import FILES

NAME = "lung-group/tiny"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    yield server
    server.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    atlas = box_atlas()
    torch.manual_seed(5)
    network = Model(ModelConfig(patch_size=16, feature_size=8), atlas.location_codes)
    return save_model(network, tmp_path_factory.mktemp("model") / "model", atlas, {"registration": "affine"})


def test_pushed_pulled_and_used_by_name(
    hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (model / "script.py").write_text("raise SystemExit")
    assert cli.main(["push", str(model), NAME]) == 0
    (model / "script.py").unlink()
    assert f"{NAME}/commit/" in capsys.readouterr().out
    assert set(hub.models[NAME]) == set(FILES) - {"reference.safetensors"}
    hub.models[NAME]["modeling.py"] = b"raise SystemExit"
    assert cli.main(["pull", NAME]) == 0
    assert f"use it with --model {NAME}" in capsys.readouterr().out
    assert not [path for path in hub.asked if "modeling.py" in path]
    assert load_model(NAME).digest == load_model(model).digest
    (found,) = [one for one in models(verify=True) if one.origin == "hub"]
    assert (found.name, found.faults) == (NAME, ())
    # Without a network it is still there; what was never pulled is not.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert pull(NAME, offline=True).folder == found.folder
    with pytest.raises(UserError, match=r"other/model is not in the cache, and --offline was given"):
        pull("other/model", offline=True)
    assert cli.main(["models", NAME, "--verify"]) == 0
    assert "8 features of each of" in capsys.readouterr().out


def test_what_is_damaged_or_not_a_model_is_refused(hub: HubServer, model: Path) -> None:
    push(model, NAME)
    weights = bytearray(hub.models[NAME]["model.safetensors"])
    weights[-5] ^= 1
    hub.models["lung-group/damaged"] = {**hub.models[NAME], "model.safetensors": bytes(weights)}
    with pytest.raises(UserError, match="damaged or belongs to another model"):
        pull("lung-group/damaged")
    assert "damaged" in (models("lung-group/damaged", verify=True)[0].faults or ("",))[0]
    hub.models["lung-group/text"] = {"config.json": b"{}", "README.md": b"another kind of model"}
    hub.models["lung-group/bare"] = {"README.md": b"no configuration"}
    for other in ("lung-group/text", "lung-group/bare"):
        with pytest.raises(UserError, match=f"{other} is on the hub, but it is not a model of anatograph"):
            pull(other)
    with pytest.raises(UserError, match="The hub has no model lung-group/none"):
        pull("lung-group/none")
    for wrong in ("../x", "one-word", "a/b/c"):
        with pytest.raises(UserError, match="OWNER/NAME"):
            pull(wrong)
        with pytest.raises(UserError, match="OWNER/NAME"):
            push(model, wrong)


def test_models_of_other_packages_in_the_cache_are_not_listed(
    hub: HubServer, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push(model, NAME)
    pull(NAME)
    config = json.loads(hub.models[NAME]["config.json"])
    hub.models["lung-group/half"] = {"config.json": json.dumps({**config, "architecture": 3}).encode()}
    hub.models["language/model"] = {"config.json": b'{"architectures": ["Other"]}', "model.safetensors": b"x"}
    for unusable in ("lung-group/half", "language/model"):
        with pytest.raises(UserError, match=unusable):
            pull(unusable)
    assert {one.name for one in models() if one.origin == "hub"} == {NAME, "lung-group/half"}
    capsys.readouterr()
    assert cli.main(["models"]) == 1
    printed = capsys.readouterr().out
    assert "lung-group/half: hub, cannot be used\n  wrong: " in printed
    assert f"{NAME}: 8 features" in printed


def test_a_reference_of_another_model_is_a_fault(hub: HubServer, model: Path) -> None:
    push(model, NAME)
    for about, words in (({"model": "f00d"}, "reference of another model"), ({}, "is damaged")):
        content = save({"mean": np.zeros(1)}, {"anatograph": json.dumps(about)})
        hub.models["lung-group/other"] = {**hub.models[NAME], "reference.safetensors": content}
        with pytest.raises(UserError, match=f"lung-group/other was fetched but cannot be used: .*{words}"):
            pull("lung-group/other")


def test_a_cache_that_cannot_be_written_is_named(
    hub: HubServer, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(model, NAME)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cannot be written into the cache .*file/cache.* or set HF_HOME"):
        pull(NAME)


def test_an_unfinished_model_is_not_pushed(hub: HubServer, model: Path, tmp_path: Path) -> None:
    unfinished = {"epochs": 1, "settings": {"epochs": 3}}
    network = load_model(model)
    save_model(network, tmp_path / "early", training=unfinished)
    with pytest.raises(UserError, match=r"epoch 1 of 3; push it when"):
        push(tmp_path / "early", NAME)
    assert not hub.models


def test_models_verifies_a_folder(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model(load_model(model), tmp_path / "copy")
    assert cli.main(["models", str(folder), "--verify"]) == 0
    assert "verified" in capsys.readouterr().out
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "weights_sha256": "0" * 64}), encoding="utf-8")
    assert cli.main(["models", str(folder), "--verify"]) == 1
    assert "wrong: " in capsys.readouterr().out
