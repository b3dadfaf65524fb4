"""What the model learned, by itself."""

from __future__ import annotations

from anatograph.baselines.networks.context_model import ContextModelRow


class LearnedOnly(ContextModelRow):
    """The whole model's features without the density histogram that ends them, whitened and pooled as the model's.

    Where the histogram takes part in the contrasts, G mixes it with the rest; then these are patch features, before G.
    """

    slug = "learned-only"
    title = "w/o densities (learned part alone)"
    learned_only = True
