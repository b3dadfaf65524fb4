"""Where a model comes from, for its card: the data, the date, the code, and how its losses went."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anatograph.errors import UserError
from anatograph.learning.monitoring.metrics import read_metrics
from anatograph.phantoms.folder import described
from anatograph.study.cohort.origin import table_of_study
from anatograph.study.store import Study

_POINTS = 6
"""Points of a curve that a card shows."""


def origins(study: object, run: Path) -> dict[str, Any]:
    """``date``, ``commit``, ``data``, ``synthetic`` and ``curves`` of a model that is being trained in ``run``.

    What is not known is left out: the data are described where the study was made from a phantom cohort, the commit
    where the package runs from its repository.
    """
    found: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "curves": curves(read_metrics(run / "metrics.csv")),
    }
    if commit := source_commit():
        found["commit"] = commit
    if isinstance(study, Study):
        with suppress(UserError, OSError, ValueError):
            text, synthetic = described(table_of_study(study).parent)
            found |= {"data": text, "synthetic": synthetic} if text else {}
    return found


def curves(rows: Sequence[Mapping[str, str]]) -> dict[str, list[list[float]]]:
    """Points (update, loss, accuracy) of each level from metrics.csv, evenly spaced from the first to the last."""
    found: dict[str, list[list[float]]] = {}
    for level in ("patch", "graph"):
        points = [[float(row[name]) for name in ("step", "loss", "accuracy")] for row in rows
                  if row["level"] == level and row["loss"] and row["accuracy"]]  # fmt: skip
        if points:
            last = len(points) - 1
            chosen = dict.fromkeys(round(k * last / (_POINTS - 1)) for k in range(_POINTS))
            found[level] = [points[k] for k in chosen]
    return found


def source_commit() -> str:
    """The commit of the repository that the package runs from, with ``-dirty`` where its code was changed; or empty."""
    package = Path(__file__).resolve().parents[2]
    root = package.parents[1]
    if package.parent.name != "src" or not (root / ".git").exists():
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        commit = _git(root, "rev-parse", "HEAD").strip()
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "src").strip()
        return commit + ("-dirty" if changed else "")
    return ""


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout
