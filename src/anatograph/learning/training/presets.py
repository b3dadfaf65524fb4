"""Ready-made recipes of pretraining, and settings from a preset, a file and ``--set key=value``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anatograph.errors import UserError
from anatograph.learning.contrast.augmentation import AugmentSettings
from anatograph.learning.model.config import MODEL_PRESETS
from anatograph.learning.training.settings import PretrainSettings
from anatograph.typed_settings import nearest, read_settings_file, with_texts, with_values


def _published(graph: str) -> PretrainSettings:
    """The published recipe, with the networks of the preset ``graph``."""
    return PretrainSettings(
        epochs=30,
        landmarks_per_batch=1,
        optimiser="sgd",
        learning_rate=0.03,
        graph_learning_rate=0.03,
        warmup=0.0,
        gradient_clip=0.0,
        key_momentum=0.999,
        graph_key_momentum=0.999,
        key_norm="shuffle",
        graph_passes=10,
        queue_keys_per_subject=0,
        in_batch=False,
        bank_views=0,
        augment=AugmentSettings(),
        model=MODEL_PRESETS[graph],
    )


PRESETS: dict[str, PretrainSettings] = {
    "default": PretrainSettings(),
    "paper": replace(_published("paper"), graph_passes=1, optimiser="adam"),
    "reference": replace(_published("reference"), epochs=50, mask_same_subject=False),
    "quick": PretrainSettings(
        epochs=2,
        patch_steps=60,
        graph_rounds=40,
        bank_views=2,
        bank_draws=50,
        warmup=0.1,
        key_momentum=0.9,
        graph_key_momentum=0.9,
        recalibrate_batches=8,
        checkpoint_minutes=2.0,
        log_every=5,
        watch_every=20,
    ),
}
"""`default`: best per minute on a small machine; `paper`: the paper's text; `reference`: what the published scripts do;
`quick`: a few minutes on two cores, for a demonstration on a small study."""


def build_settings(
    preset: str | None = None, config: Path | str | None = None, overrides: Sequence[str] = ()
) -> PretrainSettings:
    """Settings of a run: a preset, then a TOML or JSON file over it, then ``key=value`` texts over both.

    A key is a field's name, with ``model.`` or ``augment.`` before it for those groups; where a name occurs only once
    the group may be left out. A file may name its preset (``preset = "paper"``). Raises ``UserError`` for an unknown
    preset or key (with the nearest name) and for a value of the wrong type.
    """
    values: dict[str, Any] = {}
    if config is not None:
        values = read_settings_file(Path(config))
    named = values.pop("preset", None)
    chosen = preset or named or "default"
    if chosen not in PRESETS:
        raise UserError(
            f"unknown preset {chosen!r}; did you mean {nearest(str(chosen), PRESETS)!r}? "
            f"The presets are {', '.join(PRESETS)}."
        )
    settings = with_values(PRESETS[chosen], values, str(config)) if values else PRESETS[chosen]
    return with_texts(settings, overrides, "--set")
