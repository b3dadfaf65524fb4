"""The architecture of a model: choices between the paper's tables, the published code, and this project's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from anatograph.choices import PoolingRule
from anatograph.errors import UserError
from anatograph.learning.model.density import THRESHOLDS
from anatograph.learning.model.pooling import PoolingSettings
from anatograph.learning.model.windowing import HU_WINDOW
from anatograph.typed_settings import with_values

GraphInput = Literal["projection", "encoder"]
Norm = Literal["batch", "group", "none"]
EncoderPooling = Literal["paper", "mean_std", "multiscale"]


_MOST = {"feature_size": 8192, "patch_size": 128, "location_code_size": 64}
"""Upper limits, so that the settings of a model from elsewhere cannot exhaust the memory."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of C, f_l, G and f_g, and the patch they expect. The defaults are the paper's tables."""

    feature_size: int = 128
    """F, the length of a patch's, a node's and a subject's feature."""
    patch_size: int = 32
    """Voxels along each side of a patch, at 1 mm."""
    hu_low: float = HU_WINDOW[0]
    """HU that become -1."""
    hu_high: float = HU_WINDOW[1]
    """HU that become +1."""
    lungs_only: bool = False
    """Whether only lung is shown: voxels of a patch outside the lung mask become soft tissue
    (`anatograph.anatomy.lung_tissue`; not in the paper)."""
    inflation: float = 0.0
    """How far the lungs of all scans are brought to a common inflation, 0 (not at all) to 1 (until they are equally
    dense), see `anatograph.anatomy.lung_tissue` (not in the paper)."""
    conditional: bool = True
    """Whether f_l sees the landmark's location code (False: the paper's ablation 'w/o CE')."""
    location_code_size: int = 3
    """Length of a location code p_j."""
    projection_layers: int = 3
    """Dense layers of f_l: 3 in Table 2, 2 in the published code, 0 to do without."""
    graph: bool = True
    """Whether there is a G (False: the paper's ablation 'w/o Graph': the subject is the mean of its patches)."""
    graph_input: GraphInput = "projection"
    """What G and the embeddings are fed with: f_l's output (the paper, eq. 8) or C's features (the published code)."""
    graph_own: bool = False
    """Whether G has separate weights for a node's own feature beside its neighbourhood's (not in the paper)."""
    whiten: float = 0.0
    """Exponent of the whitening of embeddings by the within-subject covariance of regions, 0 (none) to 1 (full), see
    `anatograph.learning.model.whitening`; estimated at the end of training, not part of any loss (not in the paper)."""
    graph_projection_layers: int = 3
    """Dense layers of f_g: 3 in Table 3, 2 in the published code."""
    norm: Norm = "batch"
    """Normalisation after each convolution of C."""
    graph_norm: Norm = "batch"
    """Normalisation after the graph convolution of G."""
    pooling: EncoderPooling = "paper"
    """How C ends: 'paper' strides down to one voxel; 'mean_std' stops at a coarse map (4x4x4 for a patch of 32) and
    takes the mean and standard deviation of each channel; 'multiscale' takes them after every stage and combines
    them in one dense layer."""

    density: bool = False
    """Whether the last 14 of a patch's F features are a 14-bin cumulative density histogram instead of being learnt
    (`anatograph.learning.model.density`; not in the paper)."""

    density_in_contrast: bool = True
    """With ``density``: whether the histogram takes part in both contrasts. False: it is joined to each region after
    the graph and whitened separately, so that the learnt features must solve the contrasts without it."""
    film: bool = False
    """Whether the location code modulates C: each stage's channels are scaled and shifted by a function of p_j (FiLM,
    Perez et al. 2018). Without it, p_j enters f_l only (not in the paper)."""
    subject_pooling: PoolingRule = "mean"
    """How embeddings pool regions into a subject's vector; no loss sees it (`anatograph.learning.model.pooling`)."""
    harmonics: int = 4
    """Parts of the subject's vector where ``subject_pooling`` is harmonics, the mean included."""

    def __post_init__(self) -> None:
        PoolingSettings(self.subject_pooling, self.harmonics)
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise UserError(
                    f"model setting {name} must be at least 1 and at most {most}, not {getattr(self, name)}."
                )
        for name, choices in (
            ("graph_input", GraphInput),
            ("norm", Norm),
            ("graph_norm", Norm),
            ("pooling", EncoderPooling),
        ):
            if getattr(self, name) not in get_args(choices):
                allowed = ", ".join(get_args(choices))
                raise UserError(f"model setting {name} must be one of {allowed}, not {getattr(self, name)!r}.")
        if not (0 <= self.projection_layers <= 64 and 0 <= self.graph_projection_layers <= 64):
            raise UserError(
                "model settings projection_layers and graph_projection_layers must not be negative or above 64."
            )
        if not 0 <= self.inflation <= 1:
            raise UserError(f"inflation must be between 0 and 1, not {self.inflation:g}.")
        if not 0 <= self.whiten <= 1:
            raise UserError(f"whiten must be between 0 and 1, not {self.whiten:g}.")
        if self.density and self.feature_size <= len(THRESHOLDS):
            raise UserError(f"with density a feature_size must be above {len(THRESHOLDS)}, not {self.feature_size}.")
        if self.feature_size % 2 and self.pooling == "mean_std":
            raise UserError(f"pooling mean_std needs an even feature_size, not {self.feature_size}.")
        if not self.hu_low < self.hu_high:
            raise UserError(f"the HU window [{self.hu_low}, {self.hu_high}] is empty: hu_low must be below hu_high.")

    @property
    def parts(self) -> dict[str, slice]:
        """Which features of a patch, a region or a subject are learnt, and which are the density histogram."""
        learnt = self.feature_size - (len(THRESHOLDS) if self.density else 0)
        parts = {"learnt": slice(0, learnt)}
        return {**parts, "density": slice(learnt, self.feature_size)} if self.density else parts

    @property
    def learnt_apart(self) -> int:
        """How many features of a region are learnt, where the graph does not mix them with densities; else 0."""
        return self.contrast_size if self.contrast_size < self.feature_size else 0

    @property
    def contrast_size(self) -> int:
        """Number of features that take part in the contrasts; the others are joined to each region after the graph."""
        return self.feature_size if self.density_in_contrast else self.parts["learnt"].stop

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "model settings") -> ModelConfig:
        """Read what `to_dict` wrote. Raises ``UserError`` for an unknown name or a wrong type."""
        return with_values(cls(), values, where)


MODEL_PRESETS: dict[str, ModelConfig] = {
    "paper": ModelConfig(),
    "reference": ModelConfig(projection_layers=2, graph_projection_layers=2, graph_input="encoder"),
}
"""`paper`: the supplement's Tables 1 to 3. `reference`: what the published code builds (one dense layer fewer in each
head, and the graph network is fed with C's features)."""
