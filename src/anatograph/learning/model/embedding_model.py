"""The whole model: C, f_l, G and f_g on one atlas."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.embedding import Embedding
from anatograph.learning.model.graphs import Graphs, make_graphs
from anatograph.learning.model.networks import GraphNetwork, PatchEncoder, ProjectionHead, pool_nodes
from anatograph.learning.model.pooling import Pooling, PoolingSettings, make_pooling
from anatograph.learning.model.shown import shown
from anatograph.learning.model.windowing import window

if TYPE_CHECKING:
    from anatograph.anatomy.atlas import Atlas

_AIR = -1024
"""What fills the unused rows of a block."""


class Model(nn.Module):
    """Conditional encoder E = (C, f_l) and graph network G with head f_g, for the landmarks of one atlas."""

    location_codes: Tensor

    def __init__(self, config: ModelConfig, location_codes: ArrayLike) -> None:
        """``location_codes`` is the atlas's (N, location_code_size) in [0, 1]."""
        super().__init__()
        self.config = config
        codes = torch.as_tensor(np.array(location_codes, dtype=np.float32))
        if codes.ndim != 2 or codes.shape[1] != config.location_code_size:
            raise ValueError(f"location codes have shape {tuple(codes.shape)}, not (N, {config.location_code_size})")
        self.register_buffer("location_codes", codes, persistent=False)
        features = config.contrast_size
        self.encoder = PatchEncoder(config)
        joined = features + (config.location_code_size if config.conditional else 0)
        self.projection = ProjectionHead(joined, features, config.projection_layers)
        self.graph = GraphNetwork(features, config.graph_norm, config.graph_own) if config.graph else None
        self.graph_projection = ProjectionHead(features, features, config.graph_projection_layers)
        self.whitening: Tensor | None
        self.register_buffer("whitening", torch.eye(config.feature_size) if config.whiten > 0 else None)
        self.atlas: Atlas | None = None
        """The atlas it belongs to, set by `load_model` and by pretraining."""
        self.pooling_settings = PoolingSettings(config.subject_pooling, config.harmonics)
        """How embeddings pool regions into a subject's vector; may be changed, as no weight depends on it."""
        self.unfinished = ""
        """Why it is not the model of a finished pretraining, empty where it is one; set by `load_model`."""
        self.release = ""
        """Name and number of the release it is, such as anatograph-ct-3; empty for others; set by `load_model`."""
        self.preprocessing: Mapping[str, Any] = {}
        """How the scans it was trained on were prepared, so that a new one can be prepared alike."""

    @property
    def landmarks(self) -> int:
        """N."""
        return int(self.location_codes.shape[0])

    @property
    def digest(self) -> str:
        """SHA-256 of the architecture and the weights; how embeddings are pooled is no part of it."""
        later = ("lungs_only", "inflation")  # settings that older models have not, off in these
        without = {
            k: v
            for k, v in self.config.to_dict().items()
            if k not in ("subject_pooling", "harmonics") and (v or k not in later)
        }
        digest = hashlib.sha256(json.dumps(without, sort_keys=True, default=str).encode())
        for name, value in self.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def pooling(self) -> Pooling:
        """How a subject's vector is made of its regions, on the model's atlas."""
        if self.atlas is not None:
            return make_pooling(self.pooling_settings, self.atlas.landmarks)
        if self.pooling_settings.rule != "mean":
            raise ValueError(f"pooling by {self.pooling_settings.rule} needs the model's atlas")
        return make_pooling(self.pooling_settings, np.zeros((self.landmarks, 3)))

    def windowed(self, patches: Tensor) -> Tensor:
        """Patches (B, P, P, P) as (B, 1, P, P, P) in [-1, 1]: integers are HU, floats are taken as windowed already."""
        size = self.config.patch_size
        if patches.ndim != 4 or tuple(patches.shape[1:]) != (size, size, size):
            raise ValueError(f"patches have shape {tuple(patches.shape)}, not (B, {size}, {size}, {size})")
        if not patches.is_floating_point():
            patches = window(patches, self.config.hu_low, self.config.hu_high)
        return patches[:, None]

    def encode(self, patches: Tensor, codes: Tensor | None = None) -> Tensor:
        """C: patches (B, P, P, P), int16 HU or float windowed, to features (B, F).

        ``codes`` (B, 3) are the location codes, needed where they modulate C (``config.film``).
        """
        return cast("Tensor", self.encoder(self.windowed(patches), codes))

    def project(self, features: Tensor, codes: Tensor) -> Tensor:
        """f_l: features (B, C) and location codes (B, 3) to h (B, C) (eq. 4), not normalised; C as contrasted."""
        if self.config.projection_layers == 0:
            return features
        joined = torch.cat([features, codes.to(features.dtype)], dim=-1) if self.config.conditional else features
        return cast("Tensor", self.projection(joined))

    def contrast_features(self, patches: Tensor, codes: Tensor) -> Tensor:
        """E, what the patch loss compares: patches (B, P, P, P) and codes (B, 3) to f_l(C(x) ∥ p) (B, C)."""
        x = self.windowed(patches)
        return self.project(self.encoder(x, codes) if self.joined == 0 else self.encoder.learnt(x, codes), codes)

    def patch_features(self, patches: Tensor, codes: Tensor) -> Tensor:
        """What G is fed with: patches (B, P, P, P) and codes (B, 3) to (B, F), by ``config.graph_input``."""
        features, size = self.encode(patches, codes), self.config.contrast_size
        if self.config.graph_input == "encoder":
            return features
        return _join(self.project(features[:, :size], codes), features[:, size:])

    @property
    def joined(self) -> int:
        """How many features are joined to each region after the graph, without taking part in the contrasts."""
        return self.config.feature_size - self.config.contrast_size

    def gather(self, h: Tensor, graphs: Graphs) -> Tensor:
        """Message passing, before any weight of G: h (S, N, F) to what `nodes` continues from (S, N, …)."""
        if self.graph is None:
            return h
        size = self.config.contrast_size
        return _join(self.graph.gather(h[..., :size], graphs), h[..., size:])

    def nodes(self, gathered: Tensor, present: Tensor | None) -> Tensor:
        """The rest of G: gathered (S, N, …), present (S, N) bool or None for all, to nodes (S, N, F), not whitened."""
        if self.graph is None:
            return gathered
        size = gathered.shape[-1] - self.joined
        return _join(self.graph.nodes(gathered[..., :size], present), gathered[..., size:])

    def raw_nodes(self, h: Tensor, graphs: Graphs) -> Tensor:
        """G before pooling, as trained: h (S, N, F) to nodes (S, N, F); without G the nodes are h itself."""
        return self.nodes(self.gather(h, graphs), graphs.present)

    def node_features(self, h: Tensor, graphs: Graphs) -> Tensor:
        """What embeddings hold for each region: h (S, N, F) to h' (S, N, F), whitened if so configured."""
        nodes = self.raw_nodes(h, graphs)
        return nodes if self.whitening is None else nodes @ self.whitening

    def subject_features(self, h: Tensor, graphs: Graphs) -> Tensor:
        """What embeddings hold for each subject: h (S, N, F) to the mean of `node_features` (S, F)."""
        return pool_nodes(self.node_features(h, graphs), graphs.present)

    def subject_projection(self, h: Tensor, graphs: Graphs) -> Tensor:
        """What the graph loss compares (eq. 7): h (S, N, F) to f_g(Pool(G(h))) (S, C), not normalised."""
        pooled = pool_nodes(self.raw_nodes(h, graphs), graphs.present)
        return cast("Tensor", self.graph_projection(pooled[..., : self.config.contrast_size]))

    def embed(
        self,
        patches: ArrayLike,
        edges: ArrayLike,
        present: ArrayLike | None = None,
        inside: NDArray[np.bool_] | None = None,
        parenchyma_hu: ArrayLike | None = None,
        batch_size: int = 64,
    ) -> Embedding:
        """One subject's features, in evaluation mode whatever mode the model is in.

        ``patches`` (N, P, P, P) int16 HU in the atlas's order, ``edges`` (E, 2), ``present`` (N,) bool. A model that is
        shown lungs alone also needs ``inside`` (N, P, P, P) and ``parenchyma_hu`` (N,), see `shown`. The same
        input gives the same bits, here and in `anatograph.embedding.stream.embed_stream`, which is for many subjects;
        another ``batch_size`` gives the same numbers to float32 rounding.
        Raises ValueError where the shapes do not fit the atlas, no landmark is present, or lungs are needed.
        """
        patches = self.shown(np.asarray(patches), inside, parenchyma_hu)
        self.check_subject(patches.shape, edges, present)
        there = np.ones(len(patches), dtype=bool) if present is None else np.asarray(present, dtype=bool)
        rows = np.flatnonzero(there)
        dtype = torch.float32 if patches.dtype.kind == "f" else torch.int16
        block = torch.empty((batch_size, *patches.shape[1:]), dtype=dtype)
        h = torch.zeros(len(patches), self.config.feature_size, device=self.location_codes.device)
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            block[: len(some)] = torch.from_numpy(patches[some])
            h[some] = self.features_of_block(block, some)
        return self.embedding_of(h, edges, there)

    def shown(
        self, patches: NDArray[Any], inside: NDArray[np.bool_] | None, parenchyma_hu: ArrayLike | None
    ) -> NDArray[Any]:
        """Patches (N, P, P, P) as the networks see them (`anatograph.learning.model.shown`); floats as they are."""
        return patches if patches.dtype.kind == "f" else shown(patches, inside, parenchyma_hu, self.config)

    def check_subject(self, shape: tuple[int, ...], edges: ArrayLike, present: ArrayLike | None) -> None:
        """Raise ValueError where patches of ``shape`` and their graph do not fit the atlas, or no landmark is there."""
        count, size = self.landmarks, self.config.patch_size
        if shape[:1] != (count,):
            raise ValueError(f"{shape[0] if shape else 0} patches for a model whose atlas has {count} landmarks")
        if shape[1:] != (size, size, size):
            raise ValueError(f"patches have shape {shape}, not (B, {size}, {size}, {size})")
        there = np.ones(count, dtype=bool) if present is None else np.asarray(present, dtype=bool)
        if there.shape != (count,) or not there.any():
            raise ValueError("none of the subject's landmarks is present")
        pairs = np.asarray(edges)
        if pairs.size and not 0 <= pairs.min() <= pairs.max() < count:
            raise ValueError(f"an edge names landmark {pairs.max()} or {pairs.min()}, but there are {count} landmarks")

    @torch.inference_mode()
    def features_of_block(self, block: Tensor, landmarks: NDArray[np.intp]) -> Tensor:
        """What G is fed with for the first rows of a block (B, P, P, P), float32 (len(landmarks), F), evaluation mode.

        The rows beyond ``landmarks`` are overwritten with air: blocks of one shape give a patch the same bits whatever
        its neighbours are.
        """
        block[len(landmarks) :] = _AIR
        rows = np.concatenate([landmarks, np.zeros(len(block) - len(landmarks), dtype=np.intp)])
        with _evaluating(self):
            features = self.patch_features(block.to(self.location_codes.device), self.location_codes[rows]).float()
        return features[: len(landmarks)]

    @torch.inference_mode()
    def embedding_of(self, h: Tensor, edges: ArrayLike, present: NDArray[np.bool_]) -> Embedding:
        """G and pooling for one subject, evaluation mode: h (N, F), edges (E, 2), present (N,)."""
        graphs = make_graphs([edges], self.landmarks, present[None], h.device)
        with _evaluating(self):
            nodes = self.node_features(h[None], graphs)
            subject = pool_nodes(nodes, graphs.present)[0].cpu().numpy()
        absent = torch.from_numpy(~present).to(h.device)[:, None]
        regions = nodes[0].masked_fill(absent, float("nan")).cpu().numpy()
        if self.pooling_settings.rule != "mean":
            subject = self.pooling.pool(regions).astype(np.float32)
        return Embedding(
            subject,
            regions,
            h.masked_fill(absent, float("nan")).cpu().numpy(),
        )


def _join(contrasted: Tensor, joined: Tensor) -> Tensor:
    """Features that take part in the contrasts, and those that do not."""
    return torch.cat([contrasted, joined.to(contrasted.dtype)], dim=-1) if joined.shape[-1] else contrasted


@contextmanager
def _evaluating(model: Model) -> Iterator[None]:
    """Evaluation mode within, the mode of before afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
