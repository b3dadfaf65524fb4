"""What the user supplies for rows of the benchmark: models, published weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anatograph.errors import UserError
from anatograph.learning.releases.resolve import resolve_model

TAKES_MODEL = ("anatograph", "without-ce", "without-graph", "mean-pooling", "learned-only", "untrained")
_OF_THE_WHOLE = ("without-graph", "mean-pooling", "learned-only")
"""Ablations without training of their own, which use the whole model."""
TAKES_WEIGHTS = ("medicalnet", "models-genesis")


@dataclass(frozen=True)
class MethodOptions:
    """Inputs of the rows besides the scans."""

    models: Mapping[str, Path] = field(default_factory=dict)
    """Model folders by slug: ``anatograph``, ``without-ce``, ``untrained``, and ``without-graph``, ``mean-pooling`` and
    ``learned-only``, which default to that of ``anatograph``. A row without one is pretrained on the study. Names of
    models, as `resolve_model` knows them, become their folders."""
    weights: Mapping[str, Path] = field(default_factory=dict)
    """Files of the authors' weights by slug: ``medicalnet``, ``models-genesis``."""
    allow_random: bool = False
    """Whether a row whose weights are missing may run with random ones; the table says so."""
    progress: bool = True
    """Whether to show progress bars."""
    embeddings: Mapping[str, Path] = field(default_factory=dict)
    """Tables of vectors from other tools, by the name of the row they become."""
    region_embeddings: Mapping[str, Path] = field(default_factory=dict)
    """Region features from other tools, by the same names."""
    pretrain_preset: str | None = None
    """Preset of `pretrain` for rows that are pretrained on the study; None: that of the benchmark."""
    pretrain_settings: tuple[str, ...] = ()
    """Further settings of that pretraining, ``key=value``."""

    def __post_init__(self) -> None:
        for what, given, known in (("model", self.models, TAKES_MODEL), ("weights", self.weights, TAKES_WEIGHTS)):
            for slug in given:
                if slug not in known:
                    raise UserError(f"The method '{slug}' takes no {what}; these do: {', '.join(known)}.")
        # The dataclass is frozen; from here on there are folders only.
        object.__setattr__(self, "models", {slug: resolve_model(model) for slug, model in self.models.items()})
        if stray := [name for name in self.region_embeddings if name not in self.embeddings]:
            raise UserError(f"{stray[0]} has region features but no vectors; give --embeddings {stray[0]}=FILE too.")

    def model_of(self, slug: str) -> Path | None:
        """The model folder of a row, if given; ablations without training of their own use the whole model's."""
        found = self.models.get(slug)
        return self.models.get("anatograph") if found is None and slug in _OF_THE_WHOLE else found
