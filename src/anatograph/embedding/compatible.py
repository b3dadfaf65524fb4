"""Whether two sets of vectors may stand in one analysis: only where one model, or one release of it, made both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anatograph.errors import UserError


def check_same_model(one: Mapping[str, Any], other: Mapping[str, Any], what: str, than: str) -> bool:
    """Refuse vectors of different models.

    Args:
        one: metadata of the first: ``model``, the hash of its weights, and ``release``.
        other: metadata of the second.
        what: what the first are, to begin a sentence.
        than: what the second are.

    Returns:
        Whether both models are known, so that they could be compared.

    Raises:
        UserError: another model, naming both.
    """
    first, second = one.get("model"), other.get("model")
    if not first or not second:
        return False
    if first != second:
        raise UserError(
            f"{what} was embedded by a different model ({model_name(one)}) from {than} ({model_name(other)}); "
            "vectors of different models cannot be compared, so embed both with one model."
        )
    return True


def model_name(about: Mapping[str, Any]) -> str:
    """A model as a reader knows it: its release, or the beginning of its hash."""
    digest = str(about.get("model") or "")[:12]
    release = str(about.get("release") or "")
    return f"release {release}, hash {digest}" if release else f"hash {digest}"
