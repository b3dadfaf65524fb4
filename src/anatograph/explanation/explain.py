"""Where in the lungs a prediction comes from (eq. 10 of the paper), on the scan's own voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from numpy.typing import NDArray

from anatograph.choices import MapScale, ProbeKind, Task
from anatograph.embedding.regions import open_pair
from anatograph.errors import UserError
from anatograph.evaluation.evaluate import align, group_numbers
from anatograph.evaluation.targets import read_target
from anatograph.execution.account import RunAccount
from anatograph.explanation.contribution import Contribution, Explainer
from anatograph.explanation.map_files import RegionMap, file_stem, write_map
from anatograph.explanation.map_words import MapWords
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
    progress: Callable[[str, int, int], None] | None = None,
) -> Explained:
    """Maps of what speaks for a target in the scans of some subjects.

    The probe did not see the subject (the folds are those of `evaluate` with the same ``folds``, ``group`` and
    ``seed``), and its weights are applied to each region: M_j = W h'_j.  ``probe`` "evaluate" is that of
    `evaluate`; "calm" is, of those that predict about as well, the one that scatters least over the regions of a lung.

    A map shows M_j less the median of the people fitted on at the same landmark, through a sigmoid whose 0.9 one of
    twenty of their regions goes beyond; ``scale`` "eq10" shows the sigmoid of M_j + β as it stands.  A continuous
    target is standardised first.  With more than two classes M_j sets the class against the mean of the others;
    ``every_class`` writes a map of each.  docs/explain.md says what is written.

    Raises:
        UserError: files that do not belong together, a target that cannot be fitted, or no subject that worked.
    """
    wanted = [subjects] if isinstance(subjects, str) else list(dict.fromkeys(subjects))
    if scale not in SCALES:
        raise UserError(f"The scale must be one of {', '.join(SCALES)}, not '{scale}'.")
    if probe not in get_args(ProbeKind):
        raise UserError(f"The probe must be one of {', '.join(get_args(ProbeKind))}, not '{probe}'.")
    settings = {"study": str(study), "embeddings": str(embeddings), "cohort": str(cohort), "target": target,
                "subjects": wanted, "group": group, "task": task, "class": class_name, "every_class": every_class,
                "scale": scale, "log": log, "folds": folds, "seed": seed, "probe": probe}  # fmt: skip
    folder = Path(out)
    with RunAccount("explain", settings, folder) as account:
        opened, regions = open_pair(study, embeddings)
        data = align(embeddings, cohort)
        read = read_target(data.table, target, task, log)
        groups = group_numbers(data.table, group) if group else None
        explainer = Explainer(data, read, regions, groups, folds, seed, probe)
        for note in dict.fromkeys((*data.notes, *explainer.target.notes)):
            account.note(note)
        images = {row.subject_id: row.image for row in read_cohort(cohort).rows}
        maps, done = [], []
        for number, name in enumerate(wanted, start=1):
            try:
                subject = opened.subject(name)
                found = explainer.contribution(name, class_name)
                pairs = [(file_stem(name, target), found)]
                if every_class and explainer.target.task == "classification":
                    for one in explainer.fitted_for(name).target.classes:
                        pairs.append((file_stem(name, target, one), explainer.contribution(name, one)))
                for stem, each in pairs:
                    shown = RegionMap(name, each.values(scale), _words(each, explainer.target, scale, target),
                                      _columns(each), _score(each, explainer.target))  # fmt: skip
                    maps.append(write_map(shown, subject, opened.atlas, folder, stem, images.get(name), account))
                    done.append(each)
            except UserError as error:
                if len(wanted) == 1:
                    raise
                account.fail(name, "explain", str(error))
                continue
            if progress:
                progress(name, number, len(wanted))
        if not maps:
            raise UserError(f"None of the subjects could be explained; the first: {account.failures[0].reason}")
        account.result(maps=[{"map": p.name, **_score(c, explainer.target)} for p, c in zip(maps, done, strict=True)])
    return Explained(maps, done, account)


def _columns(found: Contribution) -> dict[str, NDArray[Any]]:
    """M_j as it is, and against the reference people."""
    return {"contribution": found.raw, "reference": found.reference.median, "relative": found.relative}


def _score(found: Contribution, target: Target) -> dict[str, Any]:
    """β, what the probe says of the subject and of the reference, in the answer's and in the target's own units."""
    from scipy.special import expit

    line = found.direction
    score: dict[str, Any] = {
        "intercept": line.intercept,
        "answer": found.answer,
        "answer_of_reference": found.reference_answer,
        "people_fitted_on": found.reference.people,
    }
    if not target.classes:
        predicted = line.offset + line.scale * found.answer
        return score | {
            "predicted": predicted,
            "predicted_reference": line.offset + line.scale * found.reference_answer,
        }
    one_direction = len(target.classes) == 2 or target.task == "ordinal"
    return score | {"probability": float(expit(found.answer))} if one_direction else score


def _words(found: Contribution, target: Target, scale: str, name: str) -> MapWords:
    what = found.direction.meaning
    short = what.removesuffix(", against the other classes")
    if scale == "eq10":
        meaning = f"sigmoid of W h' + intercept (eq. 10): above 0.5 for {what}"
        ticks = {0.01: "0\nagainst it", 0.5: "0.5  neither way", 0.99: f"1\nfor {short}"}
    else:
        meaning = f"contribution against the people fitted on: above 0.5 for {what}"
        ticks = {
            0.1: "0.1  against it, more than\n19 of 20 reference regions",
            0.5: "0.5  as the reference\npeople at this place",
            0.9: f"0.9  for {short},\nmore than 19 of 20\nreference regions",
        }
    return MapWords(
        "probe", f"{found.subject_id}: what speaks for {what}", meaning, f"speaks for {what}", f"speaks against {what}",
        0.5, (0.0, 1.0), ticks, name, found.direction.class_name,
    )  # fmt: skip
