"""Every choice of a pretraining run: typed, documented, saved with the run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from anatograph.choices import Device
from anatograph.errors import UserError
from anatograph.learning.contrast.augmentation import AugmentSettings
from anatograph.learning.contrast.keys import KeyNorm
from anatograph.learning.model.config import ModelConfig
from anatograph.typed_settings import with_values

Optimiser = Literal["sgd", "adam", "adamw"]
Precision = Literal["auto", "fp32", "bf16"]

_AT_LEAST_ONE = (
    "patch_batch", "landmarks_per_batch", "graph_batch", "queue_size", "graph_passes", "keep_checkpoints", "log_every",
    "watch_every", "bank_draws", "recalibrate_batches",
)  # fmt: skip
_NOT_NEGATIVE = (
    "seed", "epochs", "patch_rounds", "graph_rounds", "patch_steps", "queue_keys_per_subject", "bank_views", "workers",
    "threads", "weight_decay", "gradient_clip", "checkpoint_minutes",
    "minutes",
)  # fmt: skip
_POSITIVE = ("learning_rate", "graph_learning_rate", "temperature")
_BELOW_ONE = ("momentum", "key_momentum", "graph_key_momentum", "warmup")


@dataclass(frozen=True)
class PretrainSettings:
    """A pretraining run. The defaults give most per minute on a small machine; other recipes are in `presets`."""

    seed: int = 0
    """Seed of every random draw."""

    epochs: int = 10
    """T_max of Algorithm 1: how often patch level and graph level take turns. 0 exports the networks with
    random weights and BatchNorm statistics of the study, as a baseline."""
    patch_rounds: int = 0
    """T_l: patch rounds an epoch, each a batch of subjects at every landmark; 0: enough to pass over all subjects."""
    graph_rounds: int = 0
    """T_g: graph updates an epoch; 0: enough to pass ``graph_passes`` times over all subjects."""
    graph_passes: int = 20
    """How often the graph level passes over the subjects in an epoch where ``graph_rounds`` is 0."""
    patch_steps: int = 0
    """Patch updates an epoch, for a run whose length does not depend on the cohort; 0: by ``patch_rounds``."""

    minutes: float = 0.0
    """Minutes that the run may take on the machine where it is begun: ``epochs``, ``patch_steps`` and ``graph_rounds``
    are reduced to fit, and so are the learning-rate schedules; 0: no limit."""

    patch_batch: int = 128
    """Patches of an update of the patch level, over all processes."""
    landmarks_per_batch: int = 8
    """Landmarks in a patch batch (1 in the published code; BatchNorm then follows the last landmark visited)."""
    graph_batch: int = 16
    """Subjects of an update of the graph level, over all processes."""

    optimiser: Optimiser = "adamw"
    """sgd (the published code), adam (the paper's text) or adamw, which learns most in a few hundred updates."""
    learning_rate: float = 0.001
    """Peak learning rate of the patch level."""
    graph_learning_rate: float = 0.001
    """Peak learning rate of the graph level."""
    warmup: float = 0.05
    """Share of each level's updates over which its learning rate rises from 0 before the cosine."""
    momentum: float = 0.9
    """SGD's momentum, or Adam's first coefficient."""
    weight_decay: float = 1e-4
    """Of all weights and biases, as published."""
    gradient_clip: float = 5.0
    """Norm to which larger gradients are clipped; 0: no clipping."""

    temperature: float = 0.2
    """τ of eq. 5 and eq. 8."""
    key_momentum: float = 0.97
    """Momentum of the patch level's key encoder (0.999 in the published code, for long runs)."""
    graph_key_momentum: float = 0.97
    """Momentum of the graph level's key network."""
    key_norm: KeyNorm = "teacher"
    """BatchNorm of the key encoder: 'teacher' uses running statistics that follow the query's slowly (no batch can leak
    through them, and the encoder is cheaper); 'shuffle' normalises parts of a batch separately, keys in another order
    than queries, as published: one part a process, two in a single process."""
    queue_size: int = 4096
    """Negatives a landmark, and at graph level."""
    queue_keys_per_subject: int = 4
    """Upper limit of a queue's length in keys per subject of the cohort; 0: ``queue_size`` alone decides."""
    mask_same_subject: bool = True
    """v ≠ i: keys of the query's own subject, or group, are not negatives (the published code has no such mask)."""
    in_batch: bool = True
    """Other subjects' keys of the same batch and landmark are negatives too. Without them queues start full of random
    unit keys, as published; an empty queue would give the first visit to a landmark nothing to learn from."""
    symmetric: bool = False
    """Use both views as queries (the mean of both losses); a step then costs nearly twice as much."""

    group: str = ""
    """A column of ``group_table``, such as the patient: subjects (scans) of one group are never each other's negatives;
    "": every subject is a group of its own."""
    negatives_within: str = ""
    """A column of ``group_table``, such as the scanner: only keys of subjects with the query's own value are negatives,
    so that what the scanner adds tells none of them apart; "": keys of all subjects."""
    group_table: str = ""
    """The cohort table with these columns."""

    bank_views: int = 4
    """Views of each subject whose features are kept for the graph level's rounds of an epoch; pairs are drawn from
    them. 0: two fresh views of every subject in every round, as published."""
    bank_draws: int = 20
    """How often a subject in the bank is drawn in an epoch on average; fewer subjects are banked where this allows."""

    recalibrate_batches: int = 16
    """Random batches over which BatchNorm's statistics of E are re-estimated before features are used."""

    workers: int = 1
    """Processes that read patches ahead; 0 reads in the training process. The results do not depend on it."""
    threads: int = 0
    """CPU threads for computing; 0: torch's default."""
    device: Device = "auto"
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
    """Updates between measurements of alignment, uniformity and effective rank."""
    max_skipped: float = 0.1
    """Largest share of non-finite updates among the last 100 before the run stops with an error."""
    probe_target: str = ""
    """A column of ``probe_table`` that a linear probe predicts from the bank after each epoch, to watch a run by."""
    probe_table: str = ""
    """The cohort table with that column."""

    augment: AugmentSettings = field(default_factory=lambda: AugmentSettings(gamma_probability=0.0, shift=6.0))
    """How views are drawn."""
    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(
            lungs_only=True,
            inflation=0.7,
            pooling="multiscale",
            graph_input="encoder",
            whiten=0.5,
            density=True,
            density_in_contrast=False,
            subject_pooling="harmonics",
        )
    )
    """The networks."""

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} must not be negative, but is {getattr(self, name)}.")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be above 0, not {getattr(self, name)}.")
        for name in _BELOW_ONE:
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}.")
        if not 0 < self.max_skipped <= 1:
            raise UserError(f"max_skipped is a share of updates above 0 and at most 1, not {self.max_skipped}.")
        if self.bank_views == 1:
            raise UserError("bank_views=1 leaves no pair of views to draw: give 2 or more, or 0 for fresh views.")
        if self.in_batch and not self.mask_same_subject:
            raise UserError("in_batch=true needs mask_same_subject=true, or a query's own key would be a negative.")
        if bool(self.probe_target) != bool(self.probe_table):
            raise UserError("probe_target and probe_table belong together: give both or neither.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """The text of a settings file that `anatograph.learning.training.presets.build_settings` reads."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "settings") -> PretrainSettings:
        """Settings from nested plain values; fields that are not named keep their default."""
        return with_values(cls(), values, where)
