"""What is normal at each landmark, on disk: statistics of reference subjects, of which no single one can be read.

One safetensors file: the arrays of a `Calibrated` normative model, and in its header what it is of (the model that
embedded the subjects, how many they are, who they are).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from anatograph._version import __version__
from anatograph.errors import UserError, plain
from anatograph.execution.files import whole_file
from anatograph.explanation.normative import LEAST_SUBJECTS, Calibrated, Normative

FORMAT_VERSION = 1
SUFFIX = ".safetensors"
_KEY = "anatograph"
_MOST_BYTES = 2**30
_SINGLE = ("centre", "basis", "mean", "precision", "usual")
"""Stored in single precision; the calibration, which is small, in double."""
_DOUBLE = ("quantiles", "normal", "burden", "slope")


@dataclass(frozen=True, eq=False)
class SavedReference:
    """Reference subjects as statistics, and what is known of them."""

    calibrated: Calibrated
    """The normative model and its calibration."""
    about: Mapping[str, Any]
    """``model`` and ``release`` that embedded them, ``atlas_hash``, ``subjects`` (their number), ``of`` (who they
    are), ``make_up`` (age, sex, site as counts)."""
    path: Path
    """The file."""

    @property
    def subjects(self) -> int:
        """How many subjects it was made of."""
        return int(self.about["subjects"])

    def __str__(self) -> str:
        """Whose reference it is, its size and make-up, as a phrase."""
        details = [f"{name} {text}" for name, text in dict(self.about.get("make_up", {})).items()]
        return f"{self.subjects} {plain(str(self.about['of']))}" + (f" ({'; '.join(details)})" if details else "")


def save_reference(path: Path, calibrated: Calibrated, about: Mapping[str, Any]) -> Path:
    """Write a reference; ``about`` is as in `SavedReference`."""
    model = calibrated.model
    values = {"centre": model.centre, "basis": model.basis, "mean": model.mean, "precision": model.precision,
              "usual": calibrated.usual, "quantiles": calibrated.quantiles, "normal": calibrated.normal,
              "burden": calibrated.burden, "slope": np.array([calibrated.slope])}  # fmt: skip
    arrays = {
        name: np.ascontiguousarray(value, dtype=np.float32 if name in _SINGLE else np.float64)
        for name, value in values.items()
    }
    said = {"format_version": FORMAT_VERSION, "anatograph_version": __version__, **about}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_bytes(save(arrays, {_KEY: json.dumps(said)}))
    return path


def load_reference(path: str | Path) -> SavedReference:
    """Read what `save_reference` wrote.

    Raises:
        UserError: no such file, another kind of file, a newer format, or arrays that do not belong together.
    """
    file = Path(path)
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError("it is larger than any reference")
        with safe_open(file, "numpy") as opened:
            about: dict[str, Any] = json.loads((opened.metadata() or {})[_KEY])
            arrays = {name: opened.get_tensor(name).astype(np.float64) for name in (*_SINGLE, *_DOUBLE)}
        if int(about["format_version"]) > FORMAT_VERSION:
            raise UserError(f"{file} is of format {about['format_version']}; install a newer anatograph.")
        if int(about["subjects"]) < LEAST_SUBJECTS or not isinstance(about["of"], str):
            raise ValueError(f"it is of fewer than {LEAST_SUBJECTS} subjects")
        return SavedReference(_calibrated(arrays), about, file)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = plain(str(error))[:200]
        raise UserError(f"{file} is not a reference ({reason}); `anatograph reference` writes one.") from error


def _calibrated(arrays: Mapping[str, NDArray[np.float64]]) -> Calibrated:
    """The normative model of these arrays. ValueError where they do not belong together."""
    centre, basis, mean, precision = (arrays[name] for name in ("centre", "basis", "mean", "precision"))
    landmarks, size = mean.shape
    shapes = (centre.shape == (landmarks, len(basis)), basis.shape[1:] == (size,), arrays["slope"].shape == (1,),
              precision.shape == (landmarks, size, size), arrays["usual"].shape == (landmarks,),
              arrays["quantiles"].shape == arrays["normal"].shape, arrays["burden"].ndim == 1)  # fmt: skip
    finite = (*_DOUBLE, "basis", "precision")
    if not all(shapes) or not all(np.isfinite(arrays[name]).all() for name in finite):
        raise ValueError("its arrays do not belong together")
    return Calibrated(Normative(centre, basis, mean, precision), arrays["usual"], arrays["quantiles"],
                      arrays["normal"], float(arrays["slope"][0]), arrays["burden"])  # fmt: skip
