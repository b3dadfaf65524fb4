"""Releases of the package: found by name, refused where damaged, and reported missing where a build ships none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from anatograph.anatomy.atlas import default_atlas
from anatograph.checkup.findings import BROKEN
from anatograph.checkup.installation import doctor
from anatograph.errors import UserError
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import load_model, save_model
from anatograph.learning.releases import shipped
from anatograph.learning.releases.resolve import resolve_model
from anatograph.learning.releases.shipped import default_release, file_sha256, shipped_model, shipped_releases

NAME = "tiny-ct-7"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model on the atlas of the package, with random weights."""
    torch.manual_seed(0)
    atlas = default_atlas()
    model = Model(ModelConfig(feature_size=8, pooling="multiscale"), atlas.location_codes)
    return save_model(model, tmp_path_factory.mktemp("tiny") / "model", atlas, {})


@pytest.fixture
def build(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a build that carries the tiny model, without an atlas of its own, as release tiny-ct-7."""

    def make(default: str | None = NAME) -> Path:
        folder = tmp_path / "models"
        shutil.copytree(tiny, folder / NAME)
        shutil.rmtree(folder / NAME / "atlas")
        config = json.loads((folder / NAME / "config.json").read_text(encoding="utf-8"))
        (folder / NAME / "config.json").write_text(json.dumps({**config, "release": NAME}), encoding="utf-8")
        hashes = {file.name: file_sha256(file) for file in sorted((folder / NAME).iterdir())}
        index = {"format_version": 1, "default": default, "releases": {NAME: {"sha256": hashes}}}
        (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
        monkeypatch.setattr(shipped, "FOLDER", folder)
        return folder / NAME

    return make


def test_a_release_is_found_by_name_and_is_on_the_packaged_atlas(build: Callable[..., Path], tiny: Path) -> None:
    folder = build()
    assert resolve_model(None) == resolve_model(NAME) == shipped_model() == folder
    model = load_model(NAME)
    assert model.release == NAME
    assert model.atlas is not None
    assert model.atlas.hash == default_atlas().hash
    assert model.digest == load_model(tiny).digest
    assert load_model(tiny).release == ""
    assert shipped_releases()[NAME].damaged() == []


def test_damaged_files_of_a_release_are_named(build: Callable[..., Path]) -> None:
    folder = build()
    (folder / "README.md").write_text("another card", encoding="utf-8")
    (folder / "config.json").unlink()
    release = default_release()
    assert release is not None
    sentences = release.damaged()
    assert len(sentences) == 2
    assert sentences[0].startswith("README.md differs") or sentences[1].startswith("README.md differs")
    assert any("config.json cannot be read" in sentence for sentence in sentences)
    (finding,) = [found for found in doctor() if NAME in found.what]
    assert finding.status == BROKEN


def test_another_model_cannot_bear_the_name_of_a_release(
    build: Callable[..., Path], tiny: Path, tmp_path: Path
) -> None:
    build()
    model = load_model(tiny)
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    other = save_model(model, tmp_path / "other")
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "release": NAME}), encoding="utf-8")
    with pytest.raises(UserError, match=f"claims to be release {NAME}, but its weights"):
        load_model(other)


def test_a_build_without_a_model_says_so(build: Callable[..., Path]) -> None:
    build(default=None)
    with pytest.raises(UserError, match=r"ships no model; give --model MODEL"):
        resolve_model(None)
    with pytest.raises(UserError, match=r"no release of that name: it carries tiny-ct-7"):
        resolve_model("anatograph-ct-99")
    with pytest.raises(UserError, match=r"no folder nowhere, and this build ships no release of that name: it carries"):
        load_model("nowhere")
    with pytest.raises(UserError, match=r"no folder run/model, and no model of that name was pulled"):
        load_model("run/model")


def test_what_this_build_ships_is_whole() -> None:
    for release in shipped_releases().values():
        assert release.damaged() == []
        assert load_model(release.name).release == release.name
