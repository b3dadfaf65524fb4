"""Landmarks as a 3D Slicer markups file, to be viewed with the scan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)


def write_markups(path: str | Path, points_lps: ArrayLike, labels: Sequence[str] | None = None) -> None:
    """Write points (N, 3), LPS mm, as one list of control points; ``labels`` default to their row number."""
    points = np.asarray(points_lps, dtype=np.float64).reshape(-1, 3)
    names = [str(row) for row in range(len(points))] if labels is None else list(labels)
    controls = [
        {
            "id": str(row + 1),
            "label": name,
            "description": "",
            "associatedNodeID": "",
            "position": [float(value) for value in point],
            "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            "selected": True,
            "locked": True,
            "visibility": True,
            "positionStatus": "defined",
        }
        for row, (name, point) in enumerate(zip(names, points, strict=True))
    ]
    markups = {
        "type": "Fiducial",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": True,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%d",
        "lastUsedControlPointNumber": len(controls),
        "controlPoints": controls,
        "measurements": [],
        "display": {"visibility": True, "opacity": 1.0, "pointLabelsVisibility": False, "glyphScale": 1.5},
    }
    text = json.dumps({"@schema": SCHEMA, "markups": [markups]}, indent=1)
    Path(path).write_text(text + "\n", encoding="utf-8")


def read_markups(path: str | Path) -> NDArray[np.float64]:
    """Control points (N, 3), LPS mm, of the first list of a Slicer markups file, in either coordinate system."""
    markups = json.loads(Path(path).read_text(encoding="utf-8"))["markups"][0]
    points = np.array([control["position"] for control in markups["controlPoints"]], dtype=np.float64).reshape(-1, 3)
    system = str(markups.get("coordinateSystem", "LPS")).upper()
    if system in ("RAS", "0"):
        points = points * np.array([-1.0, -1.0, 1.0])
    return points
