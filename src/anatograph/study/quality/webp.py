"""Pictures as text, to stand in a page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def webp(picture: Image, quality: int) -> str:
    """Base64 of a picture as WebP."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=4)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
