"""Patients like this one, and regions like these."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.anatomy.places import places, strongest
from anatograph.embedding.regions import Regions, open_pair
from anatograph.embedding.table import parquet_path, read_embeddings
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.execution.files import write_text
from anatograph.explanation.map_files import FORMAT_VERSION, file_stem
from anatograph.explanation.normative import LEAST_PEOPLE, Normative
from anatograph.explanation.reference import ReferencePeople, reference_people
from anatograph.study.store import Study

_REGIONS = 4
"""Regions whose like are looked for, where none is named."""


@dataclass(frozen=True, eq=False)
class Similar:
    """Who is like a subject, and what is like its regions."""

    subjects: pd.DataFrame
    """rank, subject_id, distance, closer_than: the share of all pairs of people that are farther apart."""
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
) -> Similar:
    """The ``k`` people nearest to a subject by embedding and, with ``study``, the regions nearest to some of its own.

    People: Euclidean distance of the subject vectors, each feature divided by its standard deviation over everyone in
    the table.  Regions: Mahalanobis distance of h'_j at the same landmark.  The regions are ``landmarks``, or the four
    that deviate most from everyone else's.  With ``study`` pictures are drawn from the stored patches; the scans
    themselves are not needed.  Of the subject's own ``group`` (its other scans) nobody is named.

    Raises:
        UserError: an unknown subject or landmark, or too few people.
    """
    if k < 1:
        raise UserError(f"-k must be at least 1, not {k}.")
    settings = {"embeddings": str(embeddings), "subject": subject, "k": k,
                "study": None if study is None else str(study), "landmarks": list(landmarks),
                "cohort": None if cohort is None else str(cohort), "group": group, "seed": seed}  # fmt: skip
    folder = Path(out)
    with RunAccount("similar", settings, folder) as account:
        if study is None and len(landmarks):
            raise UserError("--landmark needs --study, whose patches it shows.")
        own = _own_group(subject, cohort, group)
        people = nearest_people(embeddings, subject, k, own)
        stem = file_stem(subject, "similar")
        about: dict[str, Any] = {
            "format_version": FORMAT_VERSION, "kind": "similar", "subject_id": subject, "table": f"{stem}.csv",
            "picture": None, "regions_table": None, "regions_picture": None,
            "people": people.to_dict("records"), "regions": [],
        }  # fmt: skip
        regions_table, pictures = None, []
        folder.mkdir(parents=True, exist_ok=True)
        if study is not None:
            from anatograph.explanation.similar_picture import draw_people, draw_regions

            opened, regions = open_pair(study, embeddings)
            opened.subject(subject)
            regions_table = _nearest_regions(opened, regions, subject, k, landmarks, own, seed, account)
            pictures.append(draw_people(folder / f"{stem}.png", opened, subject, people))
            about["picture"] = pictures[-1].name
            if regions_table is not None:
                pictures.append(draw_regions(folder / f"{stem}_regions.png", opened, subject, regions_table))
                regions_table.to_csv(folder / f"{stem}_regions.csv", index=False)
                account.output(folder / f"{stem}_regions.csv")
                about |= {"regions_picture": pictures[-1].name, "regions_table": f"{stem}_regions.csv",
                          "regions": regions_table.to_dict("records")}  # fmt: skip
        people.to_csv(folder / f"{stem}.csv", index=False)
        write_text(folder / f"{stem}.json", json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        for path in (*pictures, folder / f"{stem}.csv", folder / f"{stem}.json"):
            account.output(path)
        account.result(people=people.to_dict("records"))
    return Similar(people, regions_table, pictures, account)


def nearest_people(embeddings: str | Path, subject: str, k: int, own: frozenset[str] = frozenset()) -> pd.DataFrame:
    """rank, subject_id, distance and closer_than of the ``k`` nearest, without ``own``.

    Raises:
        UserError: a subject that is not there, or nobody else.
    """
    table = read_embeddings(embeddings)
    if subject not in table.subject_ids:
        raise UserError(f"{parquet_path(embeddings)} has no subject '{subject}'.")
    if len(table.subject_ids) < 2:
        raise UserError(f"{parquet_path(embeddings)} holds {subject} alone, so nobody is like them.")
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
    """Distances of all pairs of people, or of ``most`` random ones."""
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
    from anatograph.evaluation.evaluate import group_numbers
    from anatograph.study.cohort import read_cohort

    table = read_cohort(cohort).table
    numbers = dict(zip(table["subject_id"], group_numbers(table, group).tolist(), strict=True))
    return frozenset([subject, *(n for n, g in numbers.items() if subject in numbers and g == numbers[subject])])


def _nearest_regions(
    study: Study,
    regions: Regions,
    subject: str,
    k: int,
    landmarks: Sequence[int],
    own: frozenset[str],
    seed: int,
    account: RunAccount,
) -> pd.DataFrame | None:
    """For each landmark the ``k`` most alike of other people's; None, and a note, where there are too few people."""
    if len(regions.subject_ids) <= LEAST_PEOPLE:
        account.note(f"regions are compared from {LEAST_PEOPLE + 1} people on; here are {len(regions.subject_ids)}")
        return None
    people, _ = reference_people(regions, seed=seed)
    calibrated, kept = people.without(sorted(own))
    nodes = regions.unwhitened(subject)
    there: NDArray[np.bool_] = np.isfinite(nodes).all(axis=1).reshape(-1)
    for j in landmarks:
        if not 0 <= j < len(there) or not there[j]:
            raise UserError(f"{subject} has no landmark {j}; they run from 0 to {len(there) - 1}.")
    deviation = calibrated.deviation(nodes)
    chosen = list(landmarks) or list(strongest(deviation, study.atlas, _REGIONS))
    distance = _distances(calibrated.model, people, kept, nodes, chosen, set(study.subject_ids))
    names = np.array(people.subject_ids)[kept]
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
    people: ReferencePeople,
    kept: NDArray[np.bool_],
    nodes: NDArray[np.float32],
    chosen: Sequence[int],
    drawable: set[str],
) -> NDArray[np.float64]:
    """(people, chosen) Mahalanobis distances at the same landmark; NaN for who is not in the study."""
    off = model.reduced(people.features[kept]) - model.reduced(nodes)
    some = off[:, list(chosen)]
    squared = np.einsum("pnq,nqr,pnr->pn", some, model.precision[list(chosen)], some)
    there = np.array([name in drawable for name, k in zip(people.subject_ids, kept, strict=True) if k])
    return np.where(there[:, None], np.sqrt(squared), np.nan)
