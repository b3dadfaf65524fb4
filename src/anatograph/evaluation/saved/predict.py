"""Saved probes on new subjects: predictions with intervals, and a warning outside the range they were fitted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.embedding.api import embed
from anatograph.embedding.table import read_embeddings
from anatograph.errors import UserError, counted
from anatograph.evaluation.headline import Headline
from anatograph.evaluation.saved.probe import (
    COVERAGE,
    FALSE_ALARMS,
    LEAST_CALIBRATED,
    SavedProbe,
    check_embeddings,
    load_probes,
    outside_range,
    range_unknown,
)
from anatograph.execution.account import RunAccount
from anatograph.execution.files import whole_file
from anatograph.learning.model.pooling import settings_from


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions for new subjects."""

    table: pd.DataFrame
    """A row for each subject and target: subject_id, target, prediction, low, high, or predicted_class,
    plausible_classes and probabilities, or log_hazard, risk, horizon, third, observed, observed_low, observed_high;
    range_p, outside_range."""
    account: RunAccount
    """Settings and notes."""


def predict(
    probe: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    model: str | Path | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Predicted:
    """Predict the targets of saved probes for new subjects.

    Intervals hold 95 % of held-out subjects of the cohort that the probe was fitted on (split conformal prediction of
    the cross-validated errors); classes whose probability is too low for that are not ``plausible_classes``.  A probe
    that was calibrated on fewer than 19 subjects cannot promise that, and these columns are then empty.  For a time
    to an event, ``risk`` is the probability of the event by ``horizon``, and ``observed`` the share of the held-out
    subjects in the same ``third`` of the predicted risk that had it by then (Kaplan-Meier, 95 % interval).
    ``range_p`` is the share of subjects like those fitted on whose embedding is as far from theirs or farther
    (Mahalanobis distance of part 0); at 0.05 and below the subject is called ``outside_range``, which happens to 5 % of
    subjects that are not.

    Args:
        probe: a folder that ``evaluate(save_probe=…)`` wrote.
        source: a table of embeddings, or one CT (a volume file or a DICOM folder) with ``model``.
        out: a .csv or .parquet file.
        model: for a CT, the model whose embeddings the probe was fitted on; found by itself where it is a release that
            ships with the package.
        say: called with warnings.

    Raises:
        UserError: no probes, embeddings of another model or pooling, or a CT without a model.
    """
    path = Path(out)
    if path.suffix.lower() not in (".csv", ".parquet"):
        path = path.with_name(path.name + ".csv")
    probes, about = load_probes(probe)
    settings = {"probe": str(probe), "source": str(source), "model": None if model is None else str(model)}
    with RunAccount("predict", settings, path) as account:
        names, features, other = _vectors(Path(source), about, model)
        for note in check_embeddings(about, other, features.shape[1], probes, str(source)):
            account.note(note)
        tables = []
        for one in probes:
            held_out = Headline.from_dict(one.held_out)
            account.note(f"{one.target}: {held_out}")
            if not held_out.better_than_chance:
                say(f"{one.target}: this probe does not predict better than chance ({held_out})")
            if one.survival is None and not np.isfinite(one.margin):
                empty = "plausible_classes is empty" if one.classes else "low, high and coverage are empty"
                unbounded = (
                    f"{one.target}: the probe was calibrated on {counted(len(one.misses), 'subject')}, too few for an "
                    f"interval of {COVERAGE:.0%} (it takes {LEAST_CALIBRATED}), so {empty}"
                )
                account.note(unbounded)
                say(unbounded)
            if unknown := range_unknown(len(one.range.distances)):
                account.note(f"{one.target}: {unknown}")
                say(account.notes[-1])
            tables.append(_table(one, names, features))
        table = pd.concat(tables, ignore_index=True)
        outside = sorted(set(table.loc[table["outside_range"], "subject_id"]))
        if outside:
            warning = outside_range(outside, len(names)) + "; their predictions and intervals do not hold"
            account.note(warning)
            say(warning)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            table.to_csv(part, index=False) if path.suffix.lower() == ".csv" else table.to_parquet(part, index=False)
        account.output(path)
        account.result(subjects=len(names), targets=[one.target for one in probes], outside_range=outside)
    return Predicted(table, account)


def _vectors(
    source: Path, about: Mapping[str, Any], model: str | Path | None
) -> tuple[list[str], NDArray[np.float64], Mapping[str, Any]]:
    """Subjects, their vectors, and what is known of them."""
    if source.suffix.lower() in (".parquet", ".csv", ".tsv") or source.with_name(source.name + ".parquet").is_file():
        table = read_embeddings(source)
        return table.subject_ids, table.features, table.about
    from anatograph.learning.model.folder import load_model
    from anatograph.learning.releases.shipped import shipped_releases

    if model is None and about.get("release") in shipped_releases():
        model = str(about["release"])
    if model is None:
        raise UserError(
            f"{source} is not a table of embeddings; for a CT give --model, the model of the probe's cohort."
        )
    network, wanted = load_model(model), settings_from(about.get("pooling"))
    done = embed(source, model=network, pooling=wanted.rule, harmonics=wanted.harmonics)
    known = {"model": network.digest, "release": network.release, "pooling": about.get("pooling")}
    return done.subject_ids, done.features.astype(np.float64), known


def _table(one: SavedProbe, names: list[str], features: NDArray[np.float64]) -> pd.DataFrame:
    rows: dict[str, Any] = {"subject_id": names, "target": one.target}
    if one.survival is not None:
        rows |= one.survival.columns(one.probe, features)
    elif one.classes:
        chances = one.probe.probabilities(features)
        labels = np.array(one.classes, dtype=object)
        plausible = [
            "|".join(name for name, p in zip(one.classes, chance, strict=True) if 1 - p <= one.margin + 1e-9)
            if np.isfinite(one.margin)
            else None  # all classes would be plausible
            for chance in chances
        ]
        rows |= {"predicted_class": labels[chances.argmax(axis=1)], "plausible_classes": plausible}
        rows |= {f"probability_{name}": chances[:, k] for k, name in enumerate(one.classes)}
    else:
        value = one.probe.predict(features)
        margin = one.margin if np.isfinite(one.margin) else np.nan
        ends = [value, value - margin, value + margin]
        value, low, high = (np.exp(end) for end in ends) if one.log else ends
        coverage = COVERAGE if np.isfinite(margin) else np.nan
        rows |= {"prediction": value, "low": low, "high": high, "coverage": coverage}
    p = one.range.p(features)
    return pd.DataFrame({**rows, "range_p": p, "outside_range": p <= FALSE_ALARMS})
