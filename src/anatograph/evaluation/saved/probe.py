"""Probes on disk: fitted on a whole cohort, with what is needed to say how far their predictions may be trusted.

A folder holds ``probes.json`` (targets, classes, held-out scores, the model and pooling they belong to) and
``probes.npz`` (weights and calibration, read without pickle).  No vector of a single subject is in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph._version import __version__
from anatograph.choices import TargetKind
from anatograph.embedding.compatible import check_same_model
from anatograph.errors import UserError, counted
from anatograph.evaluation.folds import make_folds
from anatograph.evaluation.headline import Headline
from anatograph.evaluation.probes.linear import Probe, fit_probe
from anatograph.evaluation.saved.survival import SavedSurvival, fit_saved_survival
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.targets import Target
from anatograph.execution.files import write_text
from anatograph.learning.model.pooling import Parts, settings_from
from anatograph.limits import read_json

FORMAT_VERSION = 1
COVERAGE = 0.95
"""Of an interval, and of a set of classes."""
LEAST_CALIBRATED = 19
"""Subjects that an interval of this coverage takes, and a p of `FALSE_ALARMS`: n of them allow n / (n + 1) at most."""
FALSE_ALARMS = 0.05
"""Share of subjects like those fitted on that are nevertheless called outside their range."""
_ABOUT, _ARRAYS = "probes.json", "probes.npz"
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Range:
    """Where the embeddings of the training subjects lie (part 0 of the vectors alone)."""

    mean: Array
    """(F,)."""
    precision: Array
    """(F, F) inverse of the covariance, shrunk (Ledoit and Wolf)."""
    distances: Array
    """(n,) ascending: distance of each training subject from the others, a fifth at a time."""

    def distance(self, features: Array) -> Array:
        """(m,) Mahalanobis distance of vectors (m, ≥ F)."""
        off = features[:, : len(self.mean)] - self.mean
        return np.asarray(np.sqrt(np.einsum("ij,jk,ik->i", off, self.precision, off)), dtype=np.float64)

    def p(self, features: Array) -> Array:
        """(m,) share of subjects like the training subjects that are as far away or farther."""
        farther = len(self.distances) - np.searchsorted(self.distances, self.distance(features) - 1e-9)
        return np.asarray((1 + farther) / (1 + len(self.distances)), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class SavedProbe:
    """A probe of one target and its calibration."""

    target: str
    """The column."""
    task: TargetKind
    """How it is predicted."""
    log: bool
    """Whether predictions are on the natural log scale."""
    classes: tuple[str, ...]
    """Names of the classes or steps; empty for numbers."""
    probe: Probe
    """Fitted on all subjects."""
    held_out: Mapping[str, Any]
    """The headline of its cross-validation, as `Headline.to_dict` gives it."""
    misses: Array
    """(n,) ascending: |truth - prediction| of held-out subjects, or 1 - probability of the true class; (0,) for a time
    to an event."""
    range: Range
    """Where the training subjects lie."""
    subjects: int
    """Number of the training subjects."""
    survival: SavedSurvival | None = None
    """For a time to an event, its baseline hazard and what was observed; the score of ``probe`` is the log-hazard."""

    @property
    def margin(self) -> float:
        """What 95 % of held-out subjects miss at most, with the correction for n subjects (split conformal).

        Infinite with fewer than `LEAST_CALIBRATED` of them.
        """
        n = len(self.misses)
        rank = int(np.ceil((n + 1) * COVERAGE)) - 1
        return float(self.misses[rank]) if rank < n else float("inf")


def fit_range(features: Array, groups: NDArray[np.int64] | None, seed: int) -> Range:
    """The range of vectors (n, F), each measured by a range fitted without it and its group (n,)."""
    from sklearn.covariance import ledoit_wolf

    def fitted(rows: Array) -> Range:
        mean = rows.mean(axis=0)
        # Scale-free shrinkage: features of different size must not be shrunk towards one variance.
        std = rows.std(axis=0)
        std = np.where(std > 1e-9, std, 1.0)
        covariance, _ = ledoit_wolf((rows - mean) / std, assume_centered=True)
        return Range(mean, np.linalg.inv(covariance + 1e-6 * np.eye(len(std))) / np.outer(std, std), np.zeros(0))

    distances = np.full(len(features), np.nan)
    for train, test in make_folds(np.zeros(len(features)), False, groups, 5, seed):
        distances[test] = fitted(features[train]).distance(features[test])
    whole = fitted(features)
    return Range(whole.mean, whole.precision, np.sort(distances[np.isfinite(distances)]))


@dataclass(frozen=True)
class Recipe:
    """How a saved probe is fitted."""

    parts: Parts
    """Of the features, see `fit_probe`."""
    seed: int
    """Of its inner folds."""
    log: bool
    """Whether the target is on the natural log scale."""


def fit_saved(
    features: Array,
    target: Target,
    groups: NDArray[np.int64] | None,
    rounds: list[Predictions],
    held_out: Headline,
    recipe: Recipe,
) -> SavedProbe:
    """A probe fitted on all subjects of ``features`` (n, D), calibrated by their cross-validated predictions."""
    known = fit_range(features[:, : features.shape[1] // recipe.parts.count], groups, recipe.seed)
    count = len(target.values)
    if target.task == "survival":
        probe, survival = fit_saved_survival(features, target, groups, rounds, recipe.seed, recipe.parts)
        return SavedProbe(target.name, target.task, False, (), probe, held_out.to_dict(), np.zeros(0), known, count,
                          survival)  # fmt: skip
    ordered = target.task == "ordinal"
    probe = fit_probe(features, target.values, len(target.classes), groups, recipe.seed, None, ordered, recipe.parts)
    return SavedProbe(target.name, target.task, recipe.log, target.classes, probe, held_out.to_dict(),
                      misses_of(target, rounds), known, count)  # fmt: skip


def misses_of(target: Target, rounds: list[Predictions]) -> Array:
    """How far held-out predictions are off, ascending; of several rounds each subject's mean."""
    if not target.classes:
        found = [np.abs(target.values - one.predicted) for one in rounds]
    else:
        rows = np.arange(len(target.values))
        found = [
            1 - one.probabilities[rows, target.values.astype(int)] for one in rounds if one.probabilities is not None
        ]
    return np.sort(np.mean(found, axis=0))


def save_probes(folder: str | Path, probes: list[SavedProbe], about: Mapping[str, Any]) -> Path:
    """Write a folder of probes; ``about`` is the metadata of the table of embeddings they were fitted on."""
    place = Path(folder)
    if place.is_dir() and any(place.iterdir()) and not (place / _ABOUT).is_file():
        raise UserError(f"{place} holds something other than probes; give a new or an empty folder.")
    place.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Array] = {}
    said = []
    for number, one in enumerate(probes):
        key = f"{number}_"
        arrays |= {
            f"{key}weights": one.probe.weights, f"{key}intercept": one.probe.intercept, f"{key}misses": one.misses,
            f"{key}mean": one.range.mean, f"{key}precision": one.range.precision,
            f"{key}distances": one.range.distances,
        }  # fmt: skip
        if one.survival is not None:
            arrays |= {f"{key}survival_{name}": values for name, values in one.survival.arrays().items()}
        said.append(
            {"target": one.target, "task": one.task, "log": one.log, "classes": list(one.classes),
             "ordered": one.probe.ordered, "strength": one.probe.strength, "target_mean": one.probe.target_mean,
             "target_std": one.probe.target_std, "scales": list(one.probe.scales), "held_out": dict(one.held_out),
             "subjects": one.subjects}
        )  # fmt: skip
    np.savez(place / _ARRAYS, **arrays)  # type: ignore[arg-type]
    content = {"format_version": FORMAT_VERSION, "anatograph_version": __version__, "embeddings": dict(about),
               "probes": said}  # fmt: skip
    write_text(place / _ABOUT, json.dumps(content, indent=2) + "\n")
    return place


def load_probes(folder: str | Path) -> tuple[list[SavedProbe], dict[str, Any]]:
    """Probes, and the metadata of the embeddings that they were fitted on.

    Raises:
        UserError: no probes there, files that do not belong together, or a newer format.
    """
    place = Path(folder)
    try:
        about = read_json(place / _ABOUT)
        version = int(about["format_version"])
        if version > FORMAT_VERSION:
            raise UserError(f"{place} is of format {version}; install a newer anatograph.")
        with np.load(place / _ARRAYS, allow_pickle=False) as arrays:
            return [_probe(one, arrays, f"{k}_") for k, one in enumerate(about["probes"])], dict(about["embeddings"])
    except UserError:
        raise
    except OSError as error:
        raise UserError(
            f"{place} holds no probes ({error}); `anatograph evaluate --save-probe` writes them."
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"The probes in {place} cannot be read ({error}); save them again.") from error


def _probe(said: Mapping[str, Any], arrays: Any, key: str) -> SavedProbe:
    found = {name: np.asarray(arrays[f"{key}{name}"], dtype=np.float64)
             for name in ("weights", "intercept", "misses", "mean", "precision", "distances")}  # fmt: skip
    if not all(np.isfinite(one).all() for one in found.values()) or found["weights"].ndim != 2:
        raise ValueError("its numbers are not finite")
    classes = tuple(str(name) for name in said["classes"])
    probe = Probe(
        found["weights"], found["intercept"], len(classes), float(said["strength"]), float(said["target_mean"]),
        float(said["target_std"]), bool(said["ordered"]), tuple(float(s) for s in said["scales"]),
    )  # fmt: skip
    known = Range(found["mean"], found["precision"], found["distances"])
    task: TargetKind = said["task"]
    survival = None
    if task == "survival":
        prefix = f"{key}survival_"
        curve = {name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)}
        if not curve:
            raise ValueError(f"the probe of {said['target']} was saved without its survival curve")
        survival = SavedSurvival.from_arrays(curve)
    return SavedProbe(str(said["target"]), task, bool(said["log"]), classes, probe, dict(said["held_out"]),
                      found["misses"], known, int(said["subjects"]), survival)  # fmt: skip


def check_embeddings(
    about: Mapping[str, Any], other: Mapping[str, Any], width: int, probes: list[SavedProbe], source: str
) -> list[str]:
    """Refuse embeddings of another model or pooling; notes on what could not be checked."""
    known = check_same_model(other, about, source, "the embeddings that the probe was fitted on")
    if settings_from(about.get("pooling")) != settings_from(other.get("pooling")):
        rule = settings_from(about.get("pooling")).rule
        raise UserError(
            f"{source} is pooled differently from the probe's embeddings; `anatograph pool --pooling {rule}` pools "
            "it again."
        )
    if any(one.probe.weights.shape[1] != width for one in probes):
        wanted = probes[0].probe.weights.shape[1]
        raise UserError(f"{source} has {width} features, the probe was fitted on {wanted}; embed with the same model.")
    return [] if known else ["whether the embeddings are of the probe's model could not be checked"]


def range_unknown(subjects: int) -> str:
    """A sentence where a probe was fitted on too few subjects to call any scan outside their range; else empty."""
    if subjects >= LEAST_CALIBRATED:
        return ""
    return (
        f"the probe was fitted on {counted(subjects, 'subject')}, too few to call a scan outside their range at "
        f"{FALSE_ALARMS:.0%} false alarms (it takes {LEAST_CALIBRATED})"
    )


def outside_range(outside: Sequence[str], of: int) -> str:
    """A sentence on the scans that lie outside the range of those that a probe was fitted on."""
    names = ", ".join(outside[:5]) + (" …" if len(outside) > 5 else "")
    are = "lies" if len(outside) == 1 else "lie"
    return (
        f"{len(outside)} of {of} scans {are} outside the range of the scans that the probe was fitted on ({names}), as "
        f"{FALSE_ALARMS:.0%} of scans within it do by chance"
    )
