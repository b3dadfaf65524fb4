"""What the service answers for one scan."""

from __future__ import annotations

import base64
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatograph._version import __version__
from anatograph.embedding.sources import ScanSource, settings_for
from anatograph.embedding.stream import embed_stream
from anatograph.study.quality.picture import draw_qc

if TYPE_CHECKING:
    from anatograph.learning.model.embedding_model import Model

_NAME = "scan"


def answer(model: Model, scan: Path, folder: Path) -> dict[str, Any]:
    """Embed a scan as `anatograph.embed` does, and describe it; the result can be written as JSON.

    ``vector`` (F,), ``parts`` (what equal lengths of it are pooled from), ``level``, ``concerns``, ``quality`` (null
    where a figure could not be measured), ``notes``, ``picture`` (PNG, base64), ``model`` (atlas hash, version),
    ``seconds``.  The picture is drawn in ``folder``.

    Raises:
        UserError: the scan cannot be used.
    """
    begin = time.perf_counter()
    source = ScanSource(scan, model, settings_for(model, None, None, False), _NAME, None, None)
    ((_, found),) = embed_stream(model, [source.load(_NAME)])
    prepared = source.prepared
    if prepared is None or model.atlas is None:
        raise RuntimeError("a scan that was loaded is prepared")
    picture = folder / "picture.png"
    draw_qc(prepared, model.atlas, picture)
    quality = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in prepared.quality.items()
    }
    return {
        "vector": [float(value) for value in found.subject],
        "parts": list(model.pooling.meanings),
        "level": prepared.level,
        "concerns": [{"level": one.level, "reason": one.reason} for one in prepared.concerns],
        "quality": quality,
        "notes": list(source.notes),
        "picture": base64.b64encode(picture.read_bytes()).decode("ascii"),
        "model": {"atlas_hash": model.atlas.hash, "anatograph": __version__},
        "seconds": round(time.perf_counter() - begin, 3),
    }
