"""What changed between two scans of one subject, region by region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.anatomy.places import places, strongest
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.explanation.legend import MapLegend
from anatograph.explanation.map_files import RegionMap, file_stem
from anatograph.explanation.normative import Normative
from anatograph.explanation.reference import reference_cohort
from anatograph.explanation.run import explanation_run

_PAIRS = 400


@dataclass(frozen=True, eq=False)
class Change:
    """What `change` found and wrote."""

    maps: list[Path]
    """The NIfTI files: of the change in deviation, and of the shift."""
    before: NDArray[np.float64]
    """(N,) deviation of the earlier scan."""
    after: NDArray[np.float64]
    """(N,) deviation of the later scan."""
    shift: NDArray[np.float64]
    """(N,) how far h'_j moved; 1 is as far as two different subjects typically are apart at this landmark."""
    table: pd.DataFrame
    """The regions that moved most, the strongest first."""
    account: RunAccount
    """Settings and figures."""


def change(
    study: str | Path,
    embeddings: str | Path,
    before: str,
    after: str,
    out: str | Path,
    cohort: str | Path | None = None,
    reference: str | None = None,
    group: str | None = None,
    seed: int = 0,
) -> Change:
    """Compare two scans of one subject at the same landmarks.

    Both scans were registered to the atlas on their own, so landmark j is the same place in both.  Two figures a
    region: how the deviation changed (see `deviation`; both scans are left out of the reference), and the shift,
    the Mahalanobis length of h'_after - h'_before over its median among pairs of reference subjects.  Two maps on the
    grid of the later scan, and one table.

    Raises:
        UserError: files that do not belong together, a missing scan, too few reference subjects.
    """
    if before == after:
        raise UserError(f"--before and --after are the same scan, {before}; name two.")
    settings = {"before": before, "after": after, "cohort": None if cohort is None else str(cohort),
                "reference": reference, "group": group, "seed": seed}  # fmt: skip
    with explanation_run("change", out, study, embeddings, **settings) as run:
        regions, atlas = run.regions, run.study.atlas
        compared, notes = reference_cohort(regions, cohort, reference, group, seed)
        run.note(notes)
        for name in (before, after):
            run.study.subject(name)
        _check_one_patient(before, after, group, compared.group_of)
        if group is None:
            run.note(["whether both scans are of one patient was not checked; --group COLUMN does"])
        first, second = regions.unwhitened(before), regions.unwhitened(after)
        calibrated, kept = compared.without([before, after])
        deviations = [calibrated.deviation(nodes) for nodes in (first, second)]
        usual = _between_subjects(calibrated.model, compared.features[kept], seed)
        shift = np.sqrt(_apart(calibrated.model, first, second)) / usual
        gain = deviations[1] - deviations[0]
        columns = {"deviation_before": deviations[0], "deviation_after": deviations[1], "deviation_change": gain,
                   "shift": shift}  # fmt: skip
        score = {
            "mean_change": float(np.nanmean(gain)),
            "median_shift": float(np.nanmedian(shift)),
            "share_shifted": float((shift > 1).sum() / max(int(np.isfinite(shift).sum()), 1)),
            "before": before,
            "after": after,
        }
        maps = []
        for kind, values, order in (("change", gain, np.abs(gain)), ("shift", shift, shift)):
            shown = RegionMap(after, values, _legend(kind, before, after), columns, score, order)
            maps.append(run.write(shown, file_stem(before, after, kind)))
        where = places(atlas)
        top = strongest(shift, atlas, 10)
        table = pd.DataFrame({"landmark": top, "place": [where[j] for j in top]})
        table = table.assign(**{key: column[top] for key, column in columns.items()})
        run.account.result(**score)
    return Change(maps, deviations[0], deviations[1], shift, table, run.account)


def _check_one_patient(before: str, after: str, group: str | None, group_of: Mapping[str, int]) -> None:
    """Refuse scans of two patients.

    Raises:
        UserError: the grouping column differs between them, or lacks one of them.
    """
    if group is None:
        return
    for name in (before, after):
        if name not in group_of:
            raise UserError(f"{name} is not in the cohort, so its '{group}' is unknown; add its row.")
    if group_of[before] != group_of[after]:
        raise UserError(
            f"{before} and {after} are scans of two different patients, their '{group}' differs; name two scans of "
            "one patient, or leave --group out to compare two patients on purpose."
        )


def _apart(model: Normative, one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """(…, N) squared Mahalanobis distance between features (…, N, F)."""
    off = model.reduced(one) - model.reduced(other)
    return np.asarray(np.einsum("...nq,nqr,...nr->...n", off, model.precision, off), dtype=np.float64)


def _between_subjects(model: Normative, features: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """(N,) median distance of two different reference subjects at each landmark; NaN where it is unknown."""
    import warnings

    random = np.random.default_rng(seed)
    one = random.integers(len(features), size=_PAIRS)
    other = (one + random.integers(1, len(features), size=_PAIRS)) % len(features)
    squared = np.array([_apart(model, features[a], features[b]) for a, b in zip(one, other, strict=True)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        middle = np.sqrt(np.nanmedian(squared, axis=0))
    return np.asarray(np.where(middle > 1e-9, middle, np.nan), dtype=np.float64)


def _legend(kind: str, before: str, after: str) -> MapLegend:
    if kind == "change":
        ticks = {-4.0: "−4  more usual\nthan before", 0.0: "0  as before", 4.0: "4  more unusual\nthan before"}
        return MapLegend(
            "change", f"{before} → {after}: regions that became more or less unusual",
            "deviation after minus deviation before, in normal units",
            "more unusual than before", "more usual than before", 0.0, (-4.0, 4.0), ticks,
        )  # fmt: skip
    ticks = {0.0: "0  no change", 1.0: "1  distance of two\nsubjects", 2.0: "2"}
    return MapLegend(
        "change", f"{before} → {after}: where the embedding moved",
        "shift of the embedding; 1 is the distance of two different subjects",
        "changed between the scans, in any direction", None, 0.0, (0.0, 2.0), ticks,
    )  # fmt: skip
