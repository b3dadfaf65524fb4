"""Every row that can be asked for by name; a method's module is imported when the row is."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from anatograph.errors import UserError

if TYPE_CHECKING:
    from anatograph.baselines.method import Method


@dataclass(frozen=True)
class MethodOptions:
    """What rows may be given beside the scans."""

    models: Mapping[str, Path] = field(default_factory=dict)
    """Model folders by slug: ``anatograph``, ``without-ce``, ``without-graph`` (else the one of ``anatograph``) and
    ``untrained``. A row without one is pretrained on the study."""
    weights: Mapping[str, Path] = field(default_factory=dict)
    """Files of the authors' weights by slug: ``medicalnet``, ``models-genesis``."""
    allow_random: bool = False
    """Whether a row whose weights are missing may run with random ones, and say so."""
    progress: bool = True
    """Whether to show how far a row is."""

    def __post_init__(self) -> None:
        for what, given, known in (("model", self.models, _WITH_MODEL), ("weights", self.weights, _WITH_WEIGHTS)):
            for slug in given:
                if slug not in known:
                    raise UserError(f"The method '{slug}' takes no {what}; these do: {', '.join(known)}.")


_WITH_MODEL = ("anatograph", "without-ce", "without-graph", "untrained")
_WITH_WEIGHTS = ("medicalnet", "models-genesis")


def _anatograph(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.ours import Anatograph

    return Anatograph(options.models.get("anatograph"), options.progress)


def _without_ce(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.ours import WithoutConditionalEncoding

    return WithoutConditionalEncoding(options.models.get("without-ce"), options.progress)


def _without_graph(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.ours import WithoutGraph

    model = options.models.get("without-graph", options.models.get("anatograph"))
    return WithoutGraph(model, options.progress)


def _density_shares(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.density_shares import DensitySharesRow

    return DensitySharesRow(options.progress)


def _untrained(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.ours import Untrained

    return Untrained(options.models.get("untrained"), options.progress)


def _laa950(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.densitometry import LAA950

    return LAA950(options.progress)


def _densitometry(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.densitometry import Densitometry

    return Densitometry(options.progress)


def _kmeans(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.kmeans import BagOfWords

    return BagOfWords(options.progress)


def _divergence(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.divergence import DivergenceEmbedding

    return DivergenceEmbedding(options.progress)


def _medicalnet(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.medicalnet import MedicalNet

    return MedicalNet(options.weights.get("medicalnet"), options.allow_random, options.progress)


def _models_genesis(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.models_genesis import ModelsGenesis

    return ModelsGenesis(options.weights.get("models-genesis"), options.progress)


def _moco(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.moco import MoCo

    return MoCo(options.progress)


def _cnn2d(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.cnn2d import SliceCNN

    return SliceCNN(options.progress)


def _subject2vec(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.subject2vec import Subject2Vec

    return Subject2Vec(options.progress)


def _cnn3d(options: MethodOptions) -> Method:
    from anatograph.baselines.methods.cnn3d import VolumeCNN

    return VolumeCNN(options.progress)


METHODS: dict[str, Callable[[MethodOptions], Method]] = {
    "laa950": _laa950,
    "densitometry": _densitometry,
    "kmeans": _kmeans,
    "divergence": _divergence,
    "medicalnet": _medicalnet,
    "models-genesis": _models_genesis,
    "moco": _moco,
    "cnn2d": _cnn2d,
    "subject2vec": _subject2vec,
    "cnn3d": _cnn3d,
    "density-shares": _density_shares,
    "untrained": _untrained,
    "without-ce": _without_ce,
    "without-graph": _without_graph,
    "anatograph": _anatograph,
}
"""From a slug to the row, in the order of the paper's tables; called with `MethodOptions`."""


def make_method(slug: str, options: MethodOptions | None = None) -> Method:
    """The row called ``slug``.

    Raises:
        UserError: there is no such row; names the nearest.
    """
    if slug not in METHODS:
        near = difflib.get_close_matches(slug, METHODS, n=1, cutoff=0.0)[0]
        raise UserError(f"There is no method '{slug}'; did you mean '{near}'? There are {', '.join(METHODS)}.")
    return METHODS[slug](options or MethodOptions())
