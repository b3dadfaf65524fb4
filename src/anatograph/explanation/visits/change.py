"""What changed between two scans of one subject, region by region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.anatomy.places import places, strongest
from anatograph.embedding.regions import Regions
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.explanation.legend import MapLegend
from anatograph.explanation.map_files import RegionMap, file_stem
from anatograph.explanation.normative import Calibrated, Normative
from anatograph.explanation.reference import ReferenceCohort, groups_in, reference_cohort
from anatograph.explanation.run import explanation_run
from anatograph.explanation.visits.breath import BreathEffect, fit_breath, lung_volumes
from anatograph.explanation.visits.repeatability import FEW_PAIRS, Repeatability, measure_repeats, repeat_pairs
from anatograph.study.cohort import read_cohort
from anatograph.study.store import Study

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
    repeats: Repeatability | None = None
    """What repeat scans of unchanged patients differ by, where they are given."""


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
    repeat_scans: str | None = None,
    exclude: Sequence[str] = (),
) -> Change:
    """Compare two scans of one subject at the same landmarks.

    Both scans were registered to the atlas on their own, so landmark j is the same place in both.  Two figures a
    region: how the deviation changed (see `deviation`; both scans are left out of the reference), and the shift,
    the Mahalanobis length of h'_after - h'_before over its median among pairs of reference subjects.  Two maps on the
    grid of the later scan, and one table.

    Scans in ``exclude`` are no reference.  Where the study knows the lung volumes, ``shift_corrected`` and
    ``deviation_change_corrected`` are of the later scan as at the lung volume of the earlier (`fit_breath`).
    ``repeat_scans`` names a column of the cohort whose equal values are scans of one patient on the same day:
    ``test_retest.csv`` then has the error of every region (`Repeatability`), and each region of the table whether its
    change exceeds it.

    Raises:
        UserError: files that do not belong together, a missing scan, too few reference subjects or repeat scans.
    """
    if before == after:
        raise UserError(f"--before and --after are the same scan, {before}; name two.")
    settings = {"before": before, "after": after, "cohort": None if cohort is None else str(cohort),
                "reference": reference, "group": group, "seed": seed, "repeat_scans": repeat_scans,
                "exclude": list(exclude)}  # fmt: skip
    with explanation_run("change", out, study, embeddings, **settings) as run:
        regions, atlas = run.regions, run.study.atlas
        for name in (before, after):
            run.study.subject(name)
        if group is None:
            run.note(["whether both scans are of one patient was not checked; --group COLUMN does"])
        elif cohort is not None:
            _check_one_patient(before, after, group, groups_in(read_cohort(cohort).table, group))
        compared, notes = reference_cohort(regions, cohort, reference, group, seed, exclude)
        run.note(notes)
        pairs = [] if repeat_scans is None else repeat_pairs(cohort, repeat_scans, compared.subject_ids)
        first, second = regions.unwhitened(before), regions.unwhitened(after)
        calibrated, kept = compared.without([before, after])
        deviations = [calibrated.deviation(nodes) for nodes in (first, second)]
        usual = _between_subjects(calibrated.model, compared.features[kept], seed)
        shift = np.sqrt(_apart(calibrated.model, first, second)) / usual
        gain = deviations[1] - deviations[0]
        columns = {"deviation_before": deviations[0], "deviation_after": deviations[1], "deviation_change": gain,
                   "shift": shift}  # fmt: skip
        volumes = lung_volumes(run.study, [before, after])
        breath = _breath(run.study, compared, kept, pairs) if np.isfinite(volumes).all() else None
        corrected = _corrected(calibrated, first, second, volumes, breath, usual)
        columns |= corrected
        repeats = _repeats(calibrated, compared, pairs, regions, usual) if pairs else None
        where = places(atlas)
        if repeats is not None:
            columns |= _beyond(repeats, columns)
            Path(out).mkdir(parents=True, exist_ok=True)
            repeats.table(where).to_csv(Path(out) / "test_retest.csv", index=False)
            run.account.output(Path(out) / "test_retest.csv")
        run.note(_notes(breath, repeats))
        score = {
            "mean_change": float(np.nanmean(gain)),
            "median_shift": float(np.nanmedian(shift)),
            "share_shifted": float((shift > 1).sum() / max(int(np.isfinite(shift).sum()), 1)),
            "before": before,
            "after": after,
        }
        if corrected:
            score |= {"volume_before_ml": float(volumes[0]), "volume_after_ml": float(volumes[1]),
                      "mean_change_corrected": float(np.nanmean(corrected["deviation_change_corrected"]))}  # fmt: skip
        if repeats is not None:
            score |= repeats.summary()
            score["share_beyond_repeat"] = float(np.nanmean(columns["beyond_repeat"]))
        maps = []
        for kind, values, order in (("change", gain, np.abs(gain)), ("shift", shift, shift)):
            shown = RegionMap(after, values, _legend(kind, before, after), columns, score, order)
            maps.append(run.write(shown, file_stem(before, after, kind)))
        top = strongest(shift, atlas, 10)
        table = pd.DataFrame({"landmark": top, "place": [where[j] for j in top]})
        table = table.assign(**{key: column[top] for key, column in columns.items()})
        run.account.result(**score)
    return Change(maps, deviations[0], deviations[1], shift, table, run.account, repeats)


def _breath(
    study: Study, compared: ReferenceCohort, kept: NDArray[np.bool_], pairs: Sequence[tuple[int, int]]
) -> BreathEffect | None:
    """The effect of the lung volume in the reference subjects that are kept."""
    rows = np.flatnonzero(kept)
    place = {int(row): number for number, row in enumerate(rows)}
    own = [(place[a], place[b]) for a, b in pairs if a in place and b in place]
    volumes = lung_volumes(study, [compared.subject_ids[row] for row in rows])
    return fit_breath(compared.features[rows], volumes, own)


def _corrected(
    calibrated: Calibrated,
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    volumes: NDArray[np.float64],
    breath: BreathEffect | None,
    usual: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """The change with the later scan at the lung volume of the earlier; empty where that is unknown."""
    if breath is None:
        return {}
    moved = breath.at_volume(second, float(volumes[1]), float(volumes[0]))
    return {
        "deviation_change_corrected": calibrated.deviation(moved) - calibrated.deviation(first),
        "shift_corrected": np.sqrt(_apart(calibrated.model, first, moved)) / usual,
    }


def _repeats(
    calibrated: Calibrated,
    compared: ReferenceCohort,
    pairs: Sequence[tuple[int, int]],
    regions: Regions,
    usual: NDArray[np.float64],
) -> Repeatability:
    """Test-retest figures of the reference subjects' repeat scans."""
    squared = [_apart(calibrated.model, compared.features[a], compared.features[b]) for a, b in pairs]
    vectors = np.stack([np.nanmean(regions.of(name), axis=0) for name in compared.subject_ids])
    return measure_repeats(pairs, compared.deviations(calibrated), np.sqrt(squared) / usual, vectors)


def _beyond(repeats: Repeatability, columns: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Whether a region changed by more than repeat scans do, by deviation or shift, corrected where possible."""
    change = columns.get("deviation_change_corrected", columns["deviation_change"])
    shift = columns.get("shift_corrected", columns["shift"])
    known = np.isfinite(repeats.detectable) & np.isfinite(change) & np.isfinite(shift)
    more = (np.abs(change) > repeats.detectable) | (shift > repeats.shift_limit)
    return {
        "smallest_detectable_change": repeats.detectable,
        "repeat_shift_limit": repeats.shift_limit,
        "beyond_repeat": np.where(known, more, np.nan).astype(np.float64),
    }


def _notes(breath: BreathEffect | None, repeats: Repeatability | None) -> list[str]:
    notes = []
    if breath is None:
        notes.append("the change is not corrected for lung volume: the volumes are unknown, too few or all alike")
    else:
        notes.append(f"the correction for lung volume was learnt from {breath.source}")
    if repeats is None:
        notes.append("how much repeat scans of an unchanged patient differ is unknown; --repeat-scans COLUMN says it")
    elif repeats.pairs < FEW_PAIRS:
        notes.append(
            f"{repeats.pairs} pairs of repeat scans are few: with fewer than {FEW_PAIRS} the error of a region is a "
            "rough estimate"
        )
    return notes


def _check_one_patient(before: str, after: str, group: str, group_of: Mapping[str, int]) -> None:
    """Refuse scans of two patients.

    Raises:
        UserError: the grouping column differs between them, or lacks one of them.
    """
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
