"""Whether an embedding is well spread: alignment, uniformity, effective rank, collapse."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance on the unit sphere between two views of the same rows, each (B, F); 0 is best.

    Wang and Isola 2020, α = 2.
    """
    a, b = F.normalize(first.float(), dim=1), F.normalize(second.float(), dim=1)
    return float((a - b).square().sum(dim=1).mean())


@torch.no_grad()
def uniformity(features: Tensor, t: float = 2.0) -> float:
    """Log of the mean of exp(-t·distance²) over all pairs of rows (B, F) on the unit sphere; lower is more even.

    Wang and Isola 2020. 0 means that all rows coincide; nan with fewer than two rows.
    """
    x = F.normalize(features.float(), dim=1)
    rows = len(x)
    if rows < 2:
        return float("nan")
    exponent = -t * (2.0 - 2.0 * (x @ x.T)).clamp(min=0.0)
    above = exponent[torch.triu_indices(rows, rows, offset=1).unbind()]
    return float(torch.logsumexp(above, dim=0) - torch.log(torch.tensor(float(len(above)))))


@torch.no_grad()
def effective_rank(features: Tensor, centre: bool = True) -> float:
    """Number of directions in which rows (B, F) vary: exp of the entropy of the normalised singular values.

    Roy and Vetterli 2007; from 1 (one direction) to min(B, F). The mean is subtracted first unless ``centre`` is
    False. 0 where nothing varies at all.
    """
    x = features.double()
    if centre:
        x = x - x.mean(dim=0)
    values = torch.linalg.svdvals(x)
    scale = float(features.double().abs().max()) if features.numel() else 0.0
    total = float(values.sum())
    if total <= 1e-12 * max(scale, 1e-300) * max(x.shape):
        return 0.0
    share = values / total
    share = share[share > 0]
    return float(torch.exp(-(share * share.log()).sum()))


def collapse(rank: float, uniformity: float, rows: int) -> str:
    """A warning where the features of ``rows`` different patches or subjects coincide, else an empty text."""
    if rows >= 8 and (uniformity > -0.05 or rank < 1.5):
        return (
            f"The embedding has collapsed: {rows} different patches or subjects span {rank:.1f} directions "
            f"(uniformity {uniformity:.3f}; 0: all in one point). Lower the learning rate, or raise the momentum."
        )
    return ""
