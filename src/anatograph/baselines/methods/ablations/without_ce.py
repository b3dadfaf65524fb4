"""'w/o CE': the ablation without conditional encoding."""

from __future__ import annotations

from pathlib import Path

from anatograph.baselines.networks.context_model import ContextModelRow, read_config
from anatograph.errors import UserError


class WithoutConditionalEncoding(ContextModelRow):
    """A model pretrained without location codes."""

    slug = "without-ce"
    title = "w/o CE"
    run = "without-ce"
    overrides = ("model.conditional=false",)

    def check(self, folder: Path) -> None:
        """Refuse a model with location codes."""
        if read_config(folder)["architecture"].get("conditional", True):
            raise UserError(
                f"{folder} is a model with location codes; 'w/o CE' needs one pretrained with "
                "--set model.conditional=false."
            )
