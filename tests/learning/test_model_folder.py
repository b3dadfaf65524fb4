"""A model on disk: bit by bit the same, whole or absent, and refused when its parts do not belong together."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from anatograph.anatomy.atlas import Atlas, build_atlas
from anatograph.errors import UserError
from anatograph.imaging.volume import Frame, Mask
from anatograph.learning.model.card import model_card
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import load_model, save_model
from anatograph.learning.model.origins import curves
from anatograph.phantoms.folder import described


def box_atlas(width: int = 40) -> Atlas:
    lungs = np.zeros((70, 60, 100), dtype=np.uint8)
    lungs[5:65, 5:55, 5 : 5 + width] = Mask.RIGHT
    return build_atlas(Mask(lungs, Frame(lungs.shape, (1.0, 1.0, 1.0), (-50.0, -30.0, -35.0))), 16, 14)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    atlas = box_atlas()
    torch.manual_seed(3)
    model = Model(ModelConfig(patch_size=16, pooling="multiscale"), atlas.location_codes)
    return save_model(model, tmp_path / "model", atlas, {"registration": "affine"}, {"epochs": 3})


def test_round_trip_is_exact(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    again = load_model(save_model(model, tmp_path / "again"))
    torch.manual_seed(3)
    first = Model(model.config, box_atlas().location_codes)
    for other in (model, again):
        assert first.state_dict().keys() == other.state_dict().keys()
        assert all(
            torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values(), strict=True)
        )
    assert again.preprocessing == {"registration": "affine"}
    assert again.atlas is not None
    assert again.atlas.hash == box_atlas().hash
    assert not again.training
    hu = np.random.default_rng(0).integers(-1000, 200, (model.landmarks, 16, 16, 16)).astype(np.int16)
    assert np.array_equal(model.embed(hu, [(0, 1)]).subject, again.embed(hu, [(0, 1)]).subject)


def test_folder_holds_what_the_model_expects_and_no_pickle(folder: Path) -> None:
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "atlas", "README.md"}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["input"]["spacing_mm"] == [1, 1, 1]
    assert config["input"]["hu_window"] == [-1024, 240]
    assert config["input"]["orientation"] == "LPS"
    assert config["input"]["patch_size"] == [16, 16, 16]
    assert config["atlas"]["hash"] == box_atlas().hash
    assert not [name for name in load_file(folder / "model.safetensors") if "queue" in name]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "-1024 to 240 HU" in card
    assert box_atlas().hash in card


def test_an_old_model_is_replaced_whole_and_kept_when_saving_fails(folder: Path) -> None:
    before = (folder / "config.json").read_bytes()
    model = load_model(folder)
    with pytest.raises(TypeError):
        save_model(model, folder, preprocessing={"not json": {1, 2}})
    assert (folder / "config.json").read_bytes() == before
    with torch.no_grad():
        model.projection.layers[0].bias.add_(1)
    save_model(model, folder)
    assert (folder / "config.json").read_bytes() != before
    load_model(folder)
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_something_else_is_never_overwritten(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match="does not hold a model"):
        save_model(load_model(folder), other)
    assert (other / "chapter.txt").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; give a folder for a model"):
        save_model(load_model(folder), tmp_path / "file")


def edit(folder: Path, *keys: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    at = config
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    (folder / "config.json").write_text(json.dumps(config))


def test_parts_that_do_not_belong_together_are_refused(folder: Path) -> None:
    kept = (folder / "config.json").read_text(encoding="utf-8")
    for keys, value, message in (
        (("format_version",), 99, "newer anatograph"),
        (("architecture", "feature_size"), 64, "do not fit the architecture"),
        (("architecture", "norme"), "batch", "did you mean 'norm'"),
        (("input", "hu_window"), [0, 1], "expects hu_window"),
        (("input", "orientation"), "RAS", "expects orientation = 'RAS'"),
        (("atlas", "hash"), "0" * 64, "not the atlas"),
        (("weights_sha256",), "0" * 64, "damaged"),
        (("atlas",), {}, "atlas.hash is missing"),
    ):
        edit(folder, *keys, value=value)
        with pytest.raises(UserError, match=message):
            load_model(folder)
        (folder / "config.json").write_text(kept)
    load_model(folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match="damaged"):
        load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        load_model(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(UserError, match="not the configuration of a model"):
        load_model(folder)


def test_no_model_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model here"):
        load_model(tmp_path / "nowhere")


def test_a_model_is_not_saved_with_another_atlas(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs its atlas"):
        save_model(load_model(folder), tmp_path / "other", box_atlas(80))


def card_of(folder: Path, **changes: object) -> str:
    """The card of a model whose configuration has these entries too."""
    return model_card({**json.loads((folder / "config.json").read_text(encoding="utf-8")), **changes})


def test_the_card_says_what_a_reader_needs(folder: Path) -> None:
    result = {"on": "half-real scans", "target": "emphysema_extent", "metric": "R²", "value": 0.81, "low": 0.7,
              "high": 0.88, "n": 88, "command": "anatograph evaluate …"}  # fmt: skip
    training = {"subjects": 160, "epochs": 3, "date": "2026-11-28", "commit": "0a1b2c", "data": "synthetic phantoms",
                "synthetic": True, "curves": {"patch": [[5, 2.5, 0.19], [100, 0.4, 0.9]]},
                "settings": {"seed": 20, "augment": {"noise": 50.0}}}  # fmt: skip
    card = card_of(folder, release="tiny-ct-7", license="apache-2.0", results=[result], training=training)
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "anatograph"
    titles = re.findall(r"^## (.*)$", card, flags=re.MULTILINE)
    assert titles == ["Use", "Intended use", "Expected input", "Training data", "Recipe", "Loss", "Results", "Limits",
                      "Licence", "Citation", "Settings"]  # fmt: skip
    for words in ("160 subjects: synthetic phantoms", "It has seen no patient", "| commit of anatograph | 0a1b2c |",
                  "| patches (eq. 5) | 100 | 0.400 | 90 % |", "| 0.81 | 0.70 to 0.88 | 88 |", "2012.06457",
                  "| training | augment.noise | 50.0 |", "anatograph embed SCAN_OR_COHORT_OR_STUDY OUT\n"):  # fmt: skip
        assert words in card, words
    plain = card_of(folder)
    assert "seen no patient" not in plain
    assert "--model THIS_FOLDER" in plain
    assert "None were recorded with this model" in plain


def test_a_trained_model_s_card_names_its_data_and_losses(tmp_path: Path) -> None:
    rows = [{"level": "patch", "step": str(k), "loss": str(9 - k), "accuracy": "0.5"} for k in range(9)]
    rows.append({"level": "probe", "step": "9", "loss": "", "accuracy": ""})
    found = curves(rows)
    assert list(found) == ["patch"]
    assert found["patch"][0] == [0.0, 9.0, 0.5]
    assert found["patch"][-1] == [8.0, 1.0, 0.5]
    assert len(found["patch"]) == 6
    account = {"generator": 2, "seed": 20, "settings": {"ranges": {"slice_mm": [0.7, 5.0], "noise_hu": [8.0, 60.0]}}}
    (tmp_path / "phantom.json").write_text(json.dumps(account))
    text, synthetic = described(tmp_path)
    assert text.startswith("synthetic phantoms (generator 2, seed 20; scanners drawn at random, slices of 0.7 to 5 mm")
    assert synthetic
    (tmp_path / "phantom.json").write_text(json.dumps({**account, "onto": True}))
    assert described(tmp_path)[1] is False
    assert described(tmp_path / "elsewhere") == ("", False)
