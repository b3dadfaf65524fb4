"""Every choice of a pretraining run: typed, documented, saved with the run; presets, files and ``--set key=value``."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from anatograph.errors import UserError
from anatograph.learning.contrast.augmentation import AugmentSettings
from anatograph.learning.model.config import MODEL_PRESETS, ModelConfig

Optimiser = Literal["sgd", "adam", "adamw"]
KeyNorm = Literal["teacher", "shuffle"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class PretrainSettings:
    """A pretraining run. The defaults are what works best per minute on a small machine; see `PRESETS`."""

    seed: int = 0
    """Everything random follows from it."""

    epochs: int = 10
    """T_max of Algorithm 1: how often patch level and graph level take turns. 0 exports the networks untrained, with
    BatchNorm's statistics taken from the study: what a trained model has to beat."""
    patch_rounds: int = 0
    """T_l: patch rounds an epoch, each a batch of subjects at every landmark; 0: enough to pass over all subjects."""
    graph_rounds: int = 0
    """T_g: graph updates an epoch; 0: enough to pass ``graph_passes`` times over all subjects."""
    graph_passes: int = 20
    """How often the graph level passes over the subjects in an epoch where ``graph_rounds`` is 0."""
    patch_steps: int = 0
    """Patch updates an epoch, for a run of known length whatever the cohort; 0: as ``patch_rounds`` says."""

    patch_batch: int = 128
    """Patches of an update of the patch level, over all processes."""
    landmarks_per_batch: int = 8
    """Landmarks they come from (1 in the published code; then BatchNorm follows the last landmark visited)."""
    graph_batch: int = 16
    """Subjects of an update of the graph level, over all processes."""

    optimiser: Optimiser = "adamw"
    """sgd (the published code), adam (the paper's words) or adamw, which learns most in a few hundred updates."""
    learning_rate: float = 0.001
    """Of the patch level, at the top of its schedule."""
    graph_learning_rate: float = 0.001
    """Of the graph level, at the top of its schedule."""
    warmup: float = 0.05
    """Share of each level's updates over which its learning rate rises from 0 before the cosine."""
    momentum: float = 0.9
    """SGD's momentum, or Adam's first coefficient."""
    weight_decay: float = 1e-4
    """Of all weights and biases, as published."""
    gradient_clip: float = 5.0
    """Greatest norm of a gradient; longer ones are shortened. 0: none are."""

    temperature: float = 0.2
    """τ of eq. 5 and eq. 8."""
    key_momentum: float = 0.97
    """How slowly the patch level's key encoder follows (0.999 in the published code, made for long runs)."""
    graph_key_momentum: float = 0.97
    """How slowly the graph level's key network follows."""
    key_norm: KeyNorm = "teacher"
    """BatchNorm of the key encoder: 'teacher' uses running statistics that follow the query's slowly (no batch can leak
    through them, and the encoder is cheaper); 'shuffle' normalises parts of a batch apart, keys in another order than
    queries, as published: one part a process, two in a single process."""
    queue_size: int = 4096
    """Negatives a landmark, and at graph level."""
    queue_keys_per_subject: int = 4
    """A small cohort's queue is no longer than this many keys of everybody; 0: as long as ``queue_size`` says."""
    mask_same_subject: bool = True
    """v ≠ i: keys of the query's own subject are no negatives (the published code does not look)."""
    in_batch: bool = True
    """Other people's keys of the same batch and landmark are negatives too."""
    symmetric: bool = False
    """Use both views as queries (the mean of both losses); a step then costs nearly double."""

    bank_views: int = 4
    """Views of each subject whose features are kept for the graph level's rounds of an epoch; pairs are drawn from
    them. 0: two fresh views of every subject in every round, as published."""
    bank_draws: int = 20
    """How often a subject in the bank is drawn in an epoch on average; fewer subjects are banked where this allows."""

    recalibrate_batches: int = 16
    """Random batches over which BatchNorm's statistics of E are estimated anew before features are used."""

    workers: int = 1
    """Processes that read patches ahead; 0 reads in between. The results do not depend on it."""
    threads: int = 0
    """Threads of the processor for computing; 0: as torch finds."""
    device: str = "auto"
    """auto, cpu or cuda."""
    precision: Precision = "auto"
    """bf16 autocast or fp32; auto takes bf16 on hardware that multiplies in it: GPUs, processors with AVX-512 BF16
    or AMX. Everything else takes fp32."""

    checkpoint_minutes: float = 10.0
    """Time between checkpoints; one is also written at the end of each epoch. 0: after every update."""
    keep_checkpoints: int = 2
    """Good checkpoints kept; older ones are removed."""
    log_every: int = 10
    """Updates between rows of metrics.csv."""
    watch_every: int = 100
    """Updates between looks at alignment, uniformity and effective rank."""
    max_skipped: float = 0.1
    """Largest share of non-finite updates among the last 100 before the run stops with an error."""
    probe_target: str = ""
    """A column of ``probe_table`` that a linear probe predicts from the bank after each epoch, for watching only."""
    probe_table: str = ""
    """The cohort table with that column."""

    augment: AugmentSettings = field(default_factory=lambda: AugmentSettings(gamma_probability=0.0, shift=6.0))
    """How views are drawn."""
    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(pooling="multiscale", graph_input="encoder", whiten=0.5, density=True)
    )
    """The networks."""

    def __post_init__(self) -> None:
        at_least_one = ("patch_batch", "landmarks_per_batch", "graph_batch", "queue_size", "graph_passes")
        for name in (
            *at_least_one,
            "keep_checkpoints",
            "log_every",
            "watch_every",
            "bank_draws",
            "recalibrate_batches",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")
        zero_or_more = (
            "seed",
            "epochs",
            "patch_rounds",
            "graph_rounds",
            "patch_steps",
            "queue_keys_per_subject",
            "bank_views",
        )
        more = ("workers", "threads", "weight_decay", "gradient_clip", "checkpoint_minutes")
        for name in (*zero_or_more, *more):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, but is {getattr(self, name)}.")
        for name in ("learning_rate", "graph_learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be above 0, not {getattr(self, name)}.")
        for name in ("momentum", "key_momentum", "graph_key_momentum", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}.")
        if not 0 < self.max_skipped <= 1:
            raise UserError(f"max_skipped is a share of updates above 0 and at most 1, not {self.max_skipped}.")
        if self.bank_views == 1:
            raise UserError("bank_views=1 leaves no pair of views to draw: give 2 or more, or 0 for fresh views.")
        if self.device not in ("auto", "cpu", "cuda"):
            raise UserError(f"device must be auto, cpu or cuda, not {self.device!r}.")
        if self.in_batch and not self.mask_same_subject:
            raise UserError("in_batch=true needs mask_same_subject=true, or a query's own key would be a negative.")
        if bool(self.probe_target) != bool(self.probe_table):
            raise UserError("probe_target and probe_table belong together: give both or neither.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "settings") -> PretrainSettings:
        """Settings from nested plain values; what is not named keeps its default."""
        return _apply(cls(), values, where)


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
    "paper": replace(_published("paper"), graph_passes=1),
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
"""`default`; `paper`: the paper's text; `reference`: what the published scripts run; `quick`: a few minutes on two
cores, for a demonstration on any small study."""


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
        values = _read_file(Path(config))
    named = values.pop("preset", None)
    chosen = preset or named or "default"
    if chosen not in PRESETS:
        raise UserError(
            f"unknown preset {chosen!r}; did you mean {_nearest(str(chosen), PRESETS)!r}? "
            f"There are {', '.join(PRESETS)}."
        )
    settings = PRESETS[chosen]
    if values:
        settings = _apply(settings, values, str(config))
    nested: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: give a setting as key=value, for instance epochs=5.")
        group, name = _locate(key.strip(), "--set")
        target = nested.setdefault(group, {}) if group else nested
        target[name] = _Text(value.strip())
    return _apply(settings, nested, "--set") if nested else settings


def save_settings(settings: PretrainSettings, path: Path) -> None:
    """Write settings as JSON; `build_settings` reads the file."""
    path.write_text(json.dumps(settings.to_dict(), indent=2) + "\n", encoding="utf-8")


class _Text(str):
    """A value as typed on the command line, still without a type."""


def _read_file(path: Path) -> dict[str, Any]:
    """The tables of a TOML or JSON file."""
    if not path.is_file():
        raise UserError(f"there is no settings file {path}.")
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, OSError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise UserError(f"{path} cannot be read as {kind}: {error}.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold named settings, not {type(values).__name__}.")
    return values


def _names() -> dict[str, list[tuple[str, str]]]:
    """Every key a user may type, and the (group, field) it means."""
    keys: dict[str, list[tuple[str, str]]] = {}
    for one in dataclasses.fields(PretrainSettings):
        if one.name not in _GROUPS:
            keys[one.name] = [("", one.name)]
    for group, kind in _GROUPS.items():
        for one in dataclasses.fields(kind):
            keys[f"{group}.{one.name}"] = [(group, one.name)]
    for group, kind in _GROUPS.items():
        for one in dataclasses.fields(kind):
            if one.name not in keys or "." not in one.name:
                known = keys.setdefault(one.name, [])
                if not any(g == "" for g, _ in known):
                    known.append((group, one.name))
    return keys


def _locate(key: str, where: str) -> tuple[str, str]:
    keys = _names()
    if key not in keys:
        raise UserError(f"{where}: unknown setting {key!r}; did you mean {_nearest(key, keys)!r}?")
    if len(keys[key]) > 1:
        both = " or ".join(f"{g}.{n}" for g, n in keys[key])
        raise UserError(f"{where}: {key!r} may mean {both}; write it in full.")
    return keys[key][0]


def _nearest(word: str, known: typing.Iterable[str]) -> str:
    return difflib.get_close_matches(word, list(known), n=1, cutoff=0.0)[0]


_GROUPS: dict[str, type[Any]] = {"augment": AugmentSettings, "model": ModelConfig}


def _apply(settings: PretrainSettings, values: Mapping[str, Any], where: str) -> PretrainSettings:
    """``settings`` with ``values`` (nested as `to_dict` writes them, or with dotted names) put in, types checked."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        if key in _GROUPS:
            if not isinstance(value, Mapping):
                raise UserError(f"{where}: {key} is a group of settings; write [{key}] or {key}.NAME=VALUE.")
            known = [one.name for one in dataclasses.fields(_GROUPS[key])]
            for name in value:
                if name not in known:
                    raise UserError(
                        f"{where}: unknown setting {key}.{name}; did you mean {key}.{_nearest(name, known)}?"
                    )
            nested.setdefault(key, {}).update(value)
            continue
        group, name = _locate(key, where)
        (nested.setdefault(group, {}) if group else nested)[name] = value
    top: dict[str, Any] = {}
    for key, value in nested.items():
        if key in _GROUPS:
            kind = typing.get_type_hints(_GROUPS[key])
            checked = {name: _checked(kind[name], one, f"{where}: {key}.{name}") for name, one in value.items()}
            top[key] = replace(getattr(settings, key), **checked)
        else:
            top[key] = _checked(typing.get_type_hints(PretrainSettings)[key], value, f"{where}: {key}")
    return replace(settings, **top)


def _checked(kind: Any, value: Any, what: str) -> Any:
    """``value`` as the type ``kind``, read from text where it was typed; anything else is refused."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        allowed = typing.get_args(kind)
        if str(value) not in allowed:
            raise UserError(
                f"{what} must be one of {', '.join(allowed)}, not {str(value)!r}; "
                f"did you mean {_nearest(str(value), allowed)!r}?"
            )
        return str(value)
    if origin in (typing.Union, types.UnionType):
        return value
    typed = isinstance(value, _Text)
    if kind is bool:
        if typed and value.lower() in ("true", "yes", "on", "1", "false", "no", "off", "0"):
            return value.lower() in ("true", "yes", "on", "1")
        if isinstance(value, bool):
            return value
        raise UserError(f"{what} must be true or false, not {str(value)!r}.")
    if kind is int:
        try:
            if typed:
                return int(value)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        except ValueError:
            pass
        raise UserError(f"{what} must be a whole number, not {str(value)!r}.")
    if kind is float:
        try:
            if typed or (isinstance(value, int | float) and not isinstance(value, bool)):
                number = float(value)
                if number == number and abs(number) != float("inf"):
                    return number
        except ValueError:
            pass
        raise UserError(f"{what} must be a number, not {str(value)!r}.")
    if kind is str and isinstance(value, str):
        return str(value)
    raise UserError(f"{what} has a value of the wrong type: {value!r}.")
