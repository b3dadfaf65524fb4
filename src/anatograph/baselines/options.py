"""What the user supplies for rows of the benchmark: models, published weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anatograph.errors import UserError

TAKES_MODEL = ("anatograph", "without-ce", "without-graph", "untrained")
TAKES_WEIGHTS = ("medicalnet", "models-genesis")


@dataclass(frozen=True)
class MethodOptions:
    """Inputs of the rows besides the scans."""

    models: Mapping[str, Path] = field(default_factory=dict)
    """Model folders by slug: ``anatograph``, ``without-ce``, ``without-graph`` (defaults to that of ``anatograph``) and
    ``untrained``. A row without one is pretrained on the study."""
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
        if stray := [name for name in self.region_embeddings if name not in self.embeddings]:
            raise UserError(f"{stray[0]} has region features but no vectors; give --embeddings {stray[0]}=FILE too.")

    def model_of(self, slug: str) -> Path | None:
        """The model folder of a row, if one was given; 'w/o Graph' falls back on the whole model."""
        found = self.models.get(slug)
        return self.models.get("anatograph") if found is None and slug == "without-graph" else found
