"""Settings: typed, with presets, files and key=value texts; what is not known is refused with the nearest name."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from anatograph.errors import UserError
from anatograph.learning.contrast.augmentation import AugmentSettings
from anatograph.learning.model.config import MODEL_PRESETS
from anatograph.learning.training.presets import PRESETS, build_settings
from anatograph.learning.training.run_folder import begin_run, check_run
from anatograph.learning.training.settings import PretrainSettings

STUDY = {"atlas_hash": "a", "subjects": ["x", "y"]}


def test_published_presets_hold_the_published_numbers() -> None:
    for name in ("paper", "reference"):
        s = PRESETS[name]
        assert (s.learning_rate, s.graph_learning_rate, s.momentum, s.weight_decay) == (0.03, 0.03, 0.9, 1e-4)
        assert (s.patch_batch, s.landmarks_per_batch, s.graph_batch) == (128, 1, 16)
        assert (s.temperature, s.key_momentum, s.queue_size) == (0.2, 0.999, 4096)
        assert (s.warmup, s.bank_views, s.queue_keys_per_subject) == (0.0, 0, 0)
        assert s.augment == AugmentSettings()
        assert (s.augment.shift, s.augment.rotate, s.augment.scale, s.augment.noise) == (12.0, 10.0, 0.1, 50.0)
        assert (s.augment.noise_probability, s.augment.gamma_probability) == (0.25, 0.25)
        assert (s.augment.gamma_low, s.augment.gamma_high) == (0.5, 4.5)
        assert s.model == MODEL_PRESETS[name]
    assert PRESETS["paper"].epochs == 30
    assert PRESETS["paper"].mask_same_subject
    assert not PRESETS["reference"].mask_same_subject
    assert PRESETS["reference"].graph_passes == 10


def test_a_file_then_texts_override_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('preset = "paper"\nepochs = 5\n[augment]\nshift = 3\n[model]\nnorm = "group"\n')
    s = build_settings(None, path, ["learning_rate=0.1", "shift=4.5", "model.feature_size=64", "symmetric=yes"])
    assert (s.epochs, s.learning_rate, s.augment.shift, s.model.norm) == (5, 0.1, 4.5, "group")
    assert (s.model.feature_size, s.symmetric, s.landmarks_per_batch) == (64, True, 1)
    assert build_settings("quick", path, []).patch_steps == PRESETS["quick"].patch_steps
    as_json = tmp_path / "settings.json"
    as_json.write_text(s.to_json(), encoding="utf-8")
    assert build_settings(None, as_json) == s
    assert PretrainSettings.from_dict(json.loads(as_json.read_text(encoding="utf-8"))) == s


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("learning_rat=1", "learning_rate"),
        ("augment.gama_low=1", "augment.gamma_low"),
        ("momentun=0.5", "momentum"),
        ("epochs=two", "whole number"),
        ("epochs=1.5", "whole number"),
        ("learning_rate=fast", "must be a number"),
        ("learning_rate=nan", "must be a number"),
        ("symmetric=maybe", "true or false"),
        ("optimiser=sgb", "did you mean 'sgd'"),
        ("epochs", "key=value"),
        ("patch_batch=0", "at least 1"),
        ("momentum=1", "below 1"),
        ("noise_probability=2", "between 0 and 1"),
        ("padding=zeros", "border, reflection"),
        ("bank_views=1", "no pair"),
        ("model.norm=layer", "batch, group, none"),
        ("probe_target=fev1", "belong together"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        build_settings(None, None, [text])
    assert "\n" not in str(error.value)


def test_unknown_presets_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'quick'"):
        build_settings("quik")
    with pytest.raises(UserError, match="does not exist; give a settings file"):
        build_settings(None, tmp_path / "missing.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("epochs = = 3")
    with pytest.raises(UserError, match="TOML"):
        build_settings(None, broken)
    broken.write_text("epoch = 3")
    with pytest.raises(UserError, match="did you mean 'epochs'"):
        build_settings(None, broken)


def test_every_setting_is_explained_in_the_source() -> None:
    import ast
    import inspect

    from anatograph.learning.contrast import augmentation as augment
    from anatograph.learning.training import settings

    for module, kind in ((settings, PretrainSettings), (augment, AugmentSettings)):
        body = next(
            n for n in ast.parse(inspect.getsource(module)).body if getattr(n, "name", "") == kind.__name__
        ).body
        explained = {
            one.target.id
            for one, after in itertools.pairwise(body)
            if isinstance(one, ast.AnnAssign)
            and isinstance(one.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        }
        assert {f.name for f in fields(kind)} <= explained


def test_a_folder_is_taken_for_a_run_only_where_it_fits(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = PRESETS["quick"]
    assert check_run(run, settings, False, STUDY) == settings
    assert not run.exists()
    begin_run(run, settings, STUDY)
    assert check_run(run, settings, False, STUDY) == settings
    with pytest.raises(UserError, match=r"holds a run with other settings .*--resume alone continues"):
        check_run(run, None, False, STUDY)
    assert check_run(run, None, True, STUDY) == settings
    assert check_run(run, replace(settings, workers=7, threads=2), True, STUDY).workers == 7
    with pytest.raises(UserError, match=r"learning_rate was 0\.001, now 0\.5"):
        check_run(run, replace(settings, learning_rate=0.5), True, STUDY)
    with pytest.raises(UserError, match=r"augment\.shift was 6\.0, now 1\.0"):
        check_run(run, replace(settings, augment=replace(settings.augment, shift=1.0)), True, STUDY)
    with pytest.raises(UserError, match="another atlas"):
        check_run(run, None, True, {**STUDY, "atlas_hash": "b"})
    with pytest.raises(UserError, match=r"started on other subjects \(1 left out now: y\)"):
        check_run(run, None, True, {**STUDY, "subjects": ["x"]})
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("my only copy")
    with pytest.raises(UserError, match="does not hold a pretraining run"):
        check_run(other, settings, False, STUDY)
