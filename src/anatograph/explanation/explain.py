"""Where in the lungs a prediction comes from (eq. 10 of the paper), on the scan's own voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anatograph.choices import MapScale, ProbeKind, Task
from anatograph.embedding.table import read_embeddings
from anatograph.errors import UserError
from anatograph.evaluation.alignment import align, group_numbers
from anatograph.evaluation.headline import Headline
from anatograph.evaluation.saved.probe import FALSE_ALARMS, outside_range, range_unknown
from anatograph.evaluation.targets import read_target
from anatograph.execution.account import RunAccount
from anatograph.explanation.contribution import Contribution
from anatograph.explanation.explainer import Explainer, probe_kind
from anatograph.explanation.legend import MapLegend
from anatograph.explanation.map_files import RegionMap, file_stem
from anatograph.explanation.run import explanation_run, listed
from anatograph.explanation.saved_probe import SavedExplainer
from anatograph.study.cohort import read_cohort

if TYPE_CHECKING:
    from anatograph.evaluation.targets import Target

SCALES = ("relative", "eq10")
"""How contributions become colours; see `Contribution.values`."""


@dataclass(frozen=True, eq=False)
class Explained:
    """What `explain` wrote."""

    maps: list[Path]
    """The NIfTI files."""
    contributions: list[Contribution]
    """In the same order."""
    account: RunAccount
    """Settings, failures and figures."""
    held_out: Headline | None = None
    """How well the probe predicts subjects that it was fitted without."""


def explain(
    study: str | Path,
    embeddings: str | Path,
    cohort: str | Path,
    target: str,
    subjects: Sequence[str] | str,
    out: str | Path,
    group: str | None = None,
    task: Task | None = None,
    class_name: str | None = None,
    every_class: bool = False,
    scale: MapScale = "relative",
    log: bool = False,
    folds: int = 5,
    seed: int = 0,
    probe: ProbeKind = "evaluate",
    even_if_useless: bool = False,
    saved_probe: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    exclude: Sequence[str] = (),
) -> Explained:
    """Maps of the evidence for a target in the scans of some subjects.

    The probe was fitted without the subject (the folds are those of `evaluate` with the same ``folds``, ``group`` and
    ``seed``), and its weights are applied to each region: M_j = W h'_j (eq. 10).  ``probe`` "evaluate" is that of
    `evaluate`; "smooth" is, of the probes that predict about as well, the one whose contributions vary least over
    the regions of a lung.

    A map shows M_j minus the median of the training subjects at the same landmark, through a sigmoid scaled so that
    5 % of their regions exceed 0.9; ``scale`` "eq10" shows the sigmoid of M_j + β itself.  A continuous target
    is standardised first.  With more than two classes M_j compares the class with the mean of the others;
    ``every_class`` writes a map of each.  docs/explain.md lists the files written.

    The held-out score of the probe, with its interval, stands on each map.  Where it is not better than chance the map
    is grey and says so, unless ``even_if_useless``.  A scan outside the range of those that the probe was fitted on is
    named in a note, on its map and in its JSON (``range_p``, ``outside_range``).

    Scans in ``exclude`` are left out of the probe, as in `evaluate`, and are no reference.

    With ``saved_probe``, a folder that `evaluate` wrote, that probe is explained, and no label is needed: contributions
    are relative to the other subjects of the embeddings, and the options of fitting do not apply.

    Raises:
        UserError: files that do not belong together, a target that cannot be fitted, or no subject that worked.
    """
    wanted = listed(subjects)
    if scale not in SCALES:
        raise UserError(f"The scale must be one of {', '.join(SCALES)}, not '{scale}'.")
    kind = probe_kind(probe)
    settings = {"cohort": str(cohort), "target": target, "subjects": wanted, "group": group, "task": task,
                "class": class_name, "every_class": every_class, "scale": scale, "log": log, "folds": folds,
                "seed": seed, "probe": kind, "even_if_useless": even_if_useless,
                "saved_probe": None if saved_probe is None else str(saved_probe), "exclude": list(exclude)}  # fmt: skip
    with explanation_run("explain", out, study, embeddings, **settings) as run:
        regions = run.regions
        explainer: Explainer | SavedExplainer
        if saved_probe is None:
            data = align(embeddings, cohort, exclude=exclude)
            read = read_target(data.table, target, task, log)
            groups = group_numbers(data.table, group) if group else None
            explainer = Explainer(data, read, regions, groups, folds, seed, kind)
            run.note(dict.fromkeys((*data.notes, *explainer.target.notes)))
        else:
            explainer = SavedExplainer(saved_probe, target, read_embeddings(embeddings), regions, exclude)
            run.note(explainer.notes)
        images = {row.subject_id: row.image for row in read_cohort(cohort).rows}
        known, held_out = explainer.target, explainer.held_out
        useless = "" if held_out.better_than_chance else f"this probe does not predict {target} better than chance"
        withheld = "" if even_if_useless else useless
        if useless:
            what = (
                ", drawn on request, are no evidence" if even_if_useless else " are grey, --even-if-useless draws them"
            )
            run.note([f"{useless}: {held_out}; the maps{what}"])
        outside: list[str] = []
        if unknown := range_unknown(explainer.fitted_on):
            run.note([unknown])

        def one(name: str) -> list[tuple[Path, Contribution]]:
            run.study.subject(name)
            found = explainer.contribution(name, class_name)
            p = explainer.range_p(name)
            evidence = f"probe: {held_out}" + ("; not better than chance" if useless else "")
            if p <= FALSE_ALARMS:
                outside.append(name)
                evidence += "; this scan lies outside the range of those fitted on"
            pairs = [(file_stem(name, target), found)]
            if every_class and known.task == "classification":
                classes = explainer.fitted_for(name).target.classes
                pairs += [(file_stem(name, target, c), explainer.contribution(name, c)) for c in classes]
            written = []
            for stem, each in pairs:
                legend = replace(_legend(each, scale, target), evidence=evidence, withheld=withheld)
                values = each.values(scale)
                score = _score(each, known) | {"held_out": held_out.to_dict(), "outside_range": p <= FALSE_ALARMS,
                                               "range_p": p if np.isfinite(p) else None}  # fmt: skip
                shown = RegionMap(name, values, legend, _columns(each), score)
                written.append((run.write(shown, stem, images.get(name)), each))
            return written

        pairs = [pair for several in run.each(wanted, one, progress) for pair in several]
        if outside:
            run.note([f"{outside_range(outside, len(wanted))}; do not rely on their maps"])
        run.account.result(maps=[{"map": path.name, **_score(found, known)} for path, found in pairs])
    return Explained([path for path, _ in pairs], [found for _, found in pairs], run.account, held_out)


def _columns(found: Contribution) -> dict[str, NDArray[Any]]:
    """M_j as it is, and relative to the reference subjects."""
    return {"contribution": found.raw, "reference": found.reference.median, "relative": found.relative}


def _score(found: Contribution, target: Target) -> dict[str, Any]:
    """β, and the probe's prediction for the subject and for the reference, as the answer and in the target's units."""
    from scipy.special import expit

    line = found.direction
    score: dict[str, Any] = {
        "intercept": line.intercept,
        "answer": found.answer,
        "answer_of_reference": found.reference_answer,
        "subjects_fitted_on": found.reference.subjects,
    }
    if not target.classes:
        predicted = line.offset + line.scale * found.answer
        return score | {
            "predicted": predicted,
            "predicted_reference": line.offset + line.scale * found.reference_answer,
        }
    one_direction = len(target.classes) == 2 or target.task == "ordinal"
    return score | {"probability": float(expit(found.answer))} if one_direction else score


def _legend(found: Contribution, scale: str, name: str) -> MapLegend:
    what = found.direction.meaning
    short = what.removesuffix(", against the other classes")
    if scale == "eq10":
        meaning = f"sigmoid of W h' + intercept (eq. 10): above 0.5 for {what}"
        ticks = {0.01: "0\nagainst", 0.5: "0.5  neutral", 0.99: f"1\nfor {short}"}
    else:
        meaning = f"contribution relative to the training subjects: above 0.5 for {what}"
        ticks = {
            0.1: "0.1  against, beyond\n95 % of the reference\nregions",
            0.5: "0.5  as the reference\nsubjects at this place",
            0.9: f"0.9  for {short},\nbeyond 95 % of the\nreference regions",
        }
    return MapLegend(
        "probe", f"{found.subject_id}: {_title(found)}", meaning, f"evidence for {what}",
        f"evidence against {what}", 0.5, (0.0, 1.0), ticks, name, found.direction.class_name,
    )  # fmt: skip


def _title(found: Contribution) -> str:
    """Of a map: an association with a prediction, and no more."""
    what = found.direction.meaning
    if found.direction.class_name is None:
        what = what.replace("higher ", "higher predicted ", 1)
        return f"regions associated with {what}"
    return f"regions associated with predicting {what}"
