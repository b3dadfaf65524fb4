"""The subjects most similar to one, and the regions most similar to its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.anatomy.places import places, strongest
from anatograph.embedding.review import still_used
from anatograph.embedding.table import Embeddings, read_embeddings
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.execution.files import write_text
from anatograph.explanation.map_files import FORMAT_VERSION, file_stem
from anatograph.explanation.normative import LEAST_SUBJECTS, Normative
from anatograph.explanation.reference import ReferenceCohort, reference_cohort
from anatograph.explanation.run import ExplanationRun, explanation_run

_REGIONS = 4
"""Regions that are compared where none is named."""


@dataclass(frozen=True, eq=False)
class Similar:
    """The subjects and regions most similar to those of one subject."""

    subjects: pd.DataFrame
    """rank, subject_id, distance, closer_than: the share of all pairs of subjects that are farther apart."""
    regions: pd.DataFrame | None
    """landmark, place, rank, subject_id, distance; None without a study."""
    pictures: list[Path]
    """What was drawn."""
    account: RunAccount
    """Settings and figures."""


def similar(
    embeddings: str | Path,
    subject: str,
    out: str | Path,
    k: int = 5,
    study: str | Path | None = None,
    landmarks: Sequence[int] = (),
    cohort: str | Path | None = None,
    group: str | None = None,
    seed: int = 0,
    exclude: Sequence[str] = (),
) -> Similar:
    """The ``k`` subjects nearest to one by embedding and, with ``study``, the regions nearest to some of its own.

    Subjects: Euclidean distance of the subject vectors, each feature divided by its standard deviation over the table.
    Regions: Mahalanobis distance of h'_j at the same landmark.  The regions are ``landmarks``, or the four that deviate
    most from those of all other subjects.  With ``study`` pictures are drawn of the slices and patches that it
    stores; the scans themselves are not needed.  The subject's own ``group`` (its other scans) is left out,
    and so are scans in ``exclude`` and those that the study rejects or excludes.

    Raises:
        UserError: an unknown subject or landmark, or too few subjects.
    """
    if k < 1:
        raise UserError(f"-k must be at least 1, not {k}.")
    if study is None and len(landmarks):
        raise UserError("--landmark needs --study, whose patches it shows.")
    settings = {"subject": subject, "k": k, "landmarks": list(landmarks),
                "cohort": None if cohort is None else str(cohort), "group": group, "seed": seed,
                "exclude": list(exclude)}  # fmt: skip
    with explanation_run("similar", out, study, embeddings, **settings) as run:
        own = _own_group(subject, cohort, group)
        table, notes = _candidates(embeddings, subject, exclude)
        run.note(notes)
        nearest = nearest_subjects(table, subject, k, own)
        stem = file_stem(subject, "similar")
        about: dict[str, Any] = {
            "format_version": FORMAT_VERSION, "kind": "similar", "subject_id": subject, "table": f"{stem}.csv",
            "picture": None, "regions_table": None, "regions_picture": None,
            "subjects": nearest.to_dict("records"), "regions": [],
        }  # fmt: skip
        regions_table, pictures = None, []
        run.folder.mkdir(parents=True, exist_ok=True)
        if study is not None:
            from anatograph.explanation.similar_picture import draw_regions, draw_subjects

            run.study.subject(subject)
            regions_table = _nearest_regions(run, subject, k, landmarks, own, seed, exclude)
            pictures.append(draw_subjects(run.folder / f"{stem}.png", run.study, subject, nearest))
            about["picture"] = pictures[-1].name
            if regions_table is not None:
                picture = run.folder / f"{stem}_regions.png"
                pictures.append(draw_regions(picture, run.study, subject, regions_table))
                regions_table.to_csv(run.folder / f"{stem}_regions.csv", index=False)
                run.account.output(run.folder / f"{stem}_regions.csv")
                about |= {"regions_picture": picture.name, "regions_table": f"{stem}_regions.csv",
                          "regions": regions_table.to_dict("records")}  # fmt: skip
        nearest.to_csv(run.folder / f"{stem}.csv", index=False)
        write_text(run.folder / f"{stem}.json", json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        for path in (*pictures, run.folder / f"{stem}.csv", run.folder / f"{stem}.json"):
            run.account.output(path)
        run.account.result(subjects=nearest.to_dict("records"))
    return Similar(nearest, regions_table, pictures, run.account)


def _candidates(embeddings: str | Path, subject: str, exclude: Sequence[str]) -> tuple[Embeddings, list[str]]:
    """The subject and those that its study uses by now, and a sentence that counts the rest.

    Raises:
        UserError: an unknown subject, or no other subject.
    """
    table = read_embeddings(embeddings)
    if subject not in table.subject_ids:
        raise UserError(f"{table.path} has no subject '{subject}'.")
    used, notes = still_used(table.path, table.subject_ids, exclude=exclude)
    names = [name for name in table.subject_ids if name == subject or name in used]
    if len(names) < 2:
        raise UserError(f"{table.path} holds {subject} alone, so there is nothing to compare it with.")
    return replace(table, subject_ids=names, features=table.only(names)), notes


def nearest_subjects(table: Embeddings, subject: str, k: int, own: frozenset[str] = frozenset()) -> pd.DataFrame:
    """rank, subject_id, distance and closer_than of the ``k`` nearest, without ``own``."""
    spread = table.features.std(axis=0)
    features = (table.features - table.features.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    row = table.subject_ids.index(subject)
    distance = np.linalg.norm(features - features[row], axis=1)
    order = [i for i in np.argsort(distance, kind="stable") if i != row and table.subject_ids[i] not in own][:k]
    apart = _distances_of_pairs(features)
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(order) + 1),
            "subject_id": [table.subject_ids[i] for i in order],
            "distance": [round(float(distance[i]), 4) for i in order],
            "closer_than": [round(float((apart > distance[i]).mean()), 4) for i in order],
        }
    )


def _distances_of_pairs(features: NDArray[np.float64], most: int = 20_000) -> NDArray[np.float64]:
    """Distances of all pairs of subjects, or of ``most`` random ones."""
    count = len(features)
    if count * (count - 1) // 2 <= most:
        one, other = np.triu_indices(count, 1)
    else:
        random = np.random.default_rng(0)
        one = random.integers(count, size=most)
        other = (one + random.integers(1, count, size=most)) % count
    return np.asarray(np.linalg.norm(features[one] - features[other], axis=1), dtype=np.float64)


def _own_group(subject: str, cohort: str | Path | None, group: str | None) -> frozenset[str]:
    """The subject and its other scans."""
    if group is None:
        return frozenset([subject])
    if cohort is None:
        raise UserError("Give the cohort table too: --group is a column of it.")
    from anatograph.evaluation.alignment import group_numbers
    from anatograph.study.cohort import read_cohort

    table = read_cohort(cohort).table
    numbers = dict(zip(table["subject_id"], group_numbers(table, group).tolist(), strict=True))
    return frozenset([subject, *(n for n, g in numbers.items() if subject in numbers and g == numbers[subject])])


def _nearest_regions(
    run: ExplanationRun,
    subject: str,
    k: int,
    landmarks: Sequence[int],
    own: frozenset[str],
    seed: int,
    exclude: Sequence[str],
) -> pd.DataFrame | None:
    """For each landmark the ``k`` most similar regions of other subjects; None, and a note, where these are too few."""
    study, regions = run.study, run.regions
    if len(regions.subject_ids) <= LEAST_SUBJECTS:
        run.note([f"regions are compared among at least {LEAST_SUBJECTS + 1} subjects; "
                  f"here there are {len(regions.subject_ids)}"])  # fmt: skip
        return None
    compared, _ = reference_cohort(regions, seed=seed, exclude=exclude)
    calibrated, kept = compared.without(sorted(own))
    nodes = regions.unwhitened(subject)
    there: NDArray[np.bool_] = np.isfinite(nodes).all(axis=1).reshape(-1)
    for j in landmarks:
        if not 0 <= j < len(there) or not there[j]:
            raise UserError(f"{subject} has no landmark {j}; they run from 0 to {len(there) - 1}.")
    deviation = calibrated.deviation(nodes)
    chosen = list(landmarks) or list(strongest(deviation, study.atlas, _REGIONS))
    distance = _distances(calibrated.model, compared, kept, nodes, chosen, set(study.subject_ids))
    names = np.array(compared.subject_ids)[kept]
    where = places(study.atlas)
    rows = []
    for column, j in enumerate(chosen):
        order = [i for i in np.argsort(distance[:, column], kind="stable") if np.isfinite(distance[i, column])][:k]
        for rank, i in enumerate(order, start=1):
            one = {"landmark": int(j), "place": where[j], "deviation": round(float(deviation[j]), 3)}
            rows.append(
                one | {"rank": rank, "subject_id": str(names[i]), "distance": round(float(distance[i, column]), 4)}
            )
    return pd.DataFrame(rows)


def _distances(
    model: Normative,
    compared: ReferenceCohort,
    kept: NDArray[np.bool_],
    nodes: NDArray[np.float32],
    chosen: Sequence[int],
    drawable: set[str],
) -> NDArray[np.float64]:
    """(subjects, chosen) Mahalanobis distances at the same landmark; NaN for subjects missing from the study."""
    off = model.reduced(compared.features[kept]) - model.reduced(nodes)
    some = off[:, list(chosen)]
    squared = np.einsum("pnq,nqr,pnr->pn", some, model.precision[list(chosen)], some)
    there = np.array([name in drawable for name, k in zip(compared.subject_ids, kept, strict=True) if k])
    return np.where(there[:, None], np.sqrt(squared), np.nan)
