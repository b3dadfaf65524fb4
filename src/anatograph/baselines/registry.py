"""The table of rows, by the name used on the command line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

from anatograph.baselines.external import ExternalEmbeddings
from anatograph.baselines.floors import FLOORS
from anatograph.baselines.method import Method
from anatograph.baselines.methods.ablations.density_histogram import DensityHistogram
from anatograph.baselines.methods.ablations.learned_only import LearnedOnly
from anatograph.baselines.methods.ablations.mean_pooling import MeanPooling
from anatograph.baselines.methods.ablations.untrained import Untrained
from anatograph.baselines.methods.ablations.without_ce import WithoutConditionalEncoding
from anatograph.baselines.methods.ablations.without_graph import WithoutGraph
from anatograph.baselines.methods.anatograph import Anatograph
from anatograph.baselines.methods.cnn2d import SliceCNN
from anatograph.baselines.methods.cnn3d import VolumeCNN
from anatograph.baselines.methods.densitometry import Densitometry
from anatograph.baselines.methods.divergence import DivergenceEmbedding
from anatograph.baselines.methods.kmeans import BagOfWords
from anatograph.baselines.methods.laa950 import LAA950
from anatograph.baselines.methods.medicalnet import MedicalNet
from anatograph.baselines.methods.moco import MoCo
from anatograph.baselines.methods.models_genesis import ModelsGenesis
from anatograph.baselines.methods.subject2vec import Subject2Vec
from anatograph.baselines.options import MethodOptions
from anatograph.errors import UserError

_ROWS: tuple[type[Method], ...] = (
    LAA950,
    Densitometry,
    BagOfWords,
    DivergenceEmbedding,
    MedicalNet,
    ModelsGenesis,
    MoCo,
    SliceCNN,
    Subject2Vec,
    VolumeCNN,
    DensityHistogram,
    Untrained,
    WithoutConditionalEncoding,
    WithoutGraph,
    MeanPooling,
    LearnedOnly,
    Anatograph,
)
METHODS: Final[dict[str, type[Method]]] = {row.slug: row for row in _ROWS}
"""Class of each row by slug, in the order of the paper's tables."""


def make_method(slug: str, options: MethodOptions | None = None) -> Method:
    """The row called ``slug``.

    Raises:
        UserError: an unknown row; names the nearest.
    """
    if slug not in METHODS:
        near = difflib.get_close_matches(slug, METHODS, n=1, cutoff=0.0)[0]
        raise UserError(f"There is no method '{slug}'; did you mean '{near}'? The methods are {', '.join(METHODS)}.")
    return METHODS[slug].from_options(options or MethodOptions())


def external_rows(options: MethodOptions) -> list[ExternalEmbeddings]:
    """The rows of other tools' vectors.

    Raises:
        UserError: a name that cannot be a row's, or that of another row.
    """
    rows = []
    for name, table in options.embeddings.items():
        if name in METHODS or name in FLOORS or name == "patch-density":
            raise UserError(f"'{name}' is a row of its own; give the embeddings of {table} another name.")
        rows.append(ExternalEmbeddings(name, Path(table), options.region_embeddings.get(name)))
    return rows
