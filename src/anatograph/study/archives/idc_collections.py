"""NLST and LIDC-IDRI, downloaded from the Imaging Data Commons: one scan for each participant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anatograph.errors import UserError, counted
from anatograph.study.archives.labels import number, read_labels
from anatograph.study.archives.table import Made, write_recipe_table
from anatograph.study.sources.idc import series_folders
from anatograph.study.sources.rows import FEWEST, columns_of, first_header, identifier, images_in, is_ct


def nlst(folder: Path, out: Path, phenotypes: Sequence[Path]) -> Made:
    """Write the table of the first CT screening of each participant below ``folder``.

    ``folder`` is laid out as ``idc download`` does (``nlst/PID/STUDY/CT_SERIES``).  ``image`` is the folder of the
    earliest study, from whose series the reader chooses.  ``phenotypes``: the Participant data set as CSV (``pid``),
    for ``age``, ``sex``, ``smoker`` (current), ``pack_years``, ``lung_cancer`` 0/1 and ``cancer_days`` (from
    randomisation to the diagnosis, or to the last day known to be free of cancer).

    Raises:
        UserError: no series, or a table that is not the Participant data set.
    """
    known: dict[str, dict[str, Any]] = {}
    for file in phenotypes:
        for row in read_labels(file, "pid", "NLST's Participant data set").to_dict("records"):
            diagnosed = number(row.get("candx_days"))
            free, followed = number(row.get("canc_free_days")), number(row.get("fup_days"))
            known[str(row["pid"]).removesuffix(".0")] = {
                "age": number(row.get("age")),
                "sex": {1.0: "M", 2.0: "F"}.get(number(row.get("gender")) or 0.0),
                "smoker": number(row.get("cigsmok")),
                "pack_years": number(row.get("pkyr")),
                "lung_cancer": int(diagnosed is not None),
                "cancer_days": next((days for days in (diagnosed, free, followed) if days is not None), None),
            }
    return _first_studies("nlst", folder, out, known)


def lidc_idri(folder: Path, out: Path, phenotypes: Sequence[Path]) -> Made:
    """Write the table of one CT for each patient below ``folder`` (``lidc_idri/LIDC-IDRI-0001/STUDY/CT_SERIES``).

    ``phenotypes``: the archive's sheet of diagnoses saved as CSV, for ``malignant`` 0/1 of the 157 patients who have
    one (primary or metastatic against benign).

    Raises:
        UserError: no series, or a table that is not the sheet of diagnoses.
    """
    known: dict[str, dict[str, Any]] = {}
    for file in phenotypes:
        table = read_labels(file, "tcia patient id", "LIDC-IDRI's sheet of diagnoses")
        column = next((name for name in table.columns if name.startswith("diagnosis at the patient level")), None)
        if column is None:
            raise UserError(f"{file} has no column 'Diagnosis at the Patient Level'; save the sheet as CSV again.")
        for row in table.to_dict("records"):
            grade = number(row[column])
            known[str(row["tcia patient id"]).strip()] = {"malignant": {1.0: 0, 2.0: 1, 3.0: 1}.get(grade or 0.0)}
    return _first_studies("lidc-idri", folder, out, known)


def _first_studies(recipe: str, folder: Path, out: Path, known: Mapping[str, Mapping[str, Any]]) -> Made:
    """The earliest study of each patient that has a CT series of enough images.

    ``known`` are the labels by patient; a value there comes before that of the header.
    """
    found: dict[str, list[tuple[str, int, Path, Any]]] = {}
    for place in series_folders(folder).values():
        files = images_in(place)
        header = first_header(files) if len(files) >= FEWEST else None
        if is_ct(header):
            patient = str(header.get("PatientID") or place.parent.parent.name)
            found.setdefault(patient, []).append((str(header.get("StudyDate", "")), -len(files), place.parent, header))
    rows = []
    for patient, several in sorted(found.items()):
        _, _, study, header = min(several, key=lambda one: (one[0], one[1], str(one[2])))
        about = {key: value for key, value in columns_of(header).items() if key != "patient"}  # it is the subject_id
        labels = {key: value for key, value in known.get(patient, {}).items() if value is not None}
        rows.append({"subject_id": identifier(patient), "image": study, **about, **labels})
    if not rows:
        raise UserError(f"{folder} holds no CT series; give the folder that `idc download` filled.")
    columns = dict.fromkeys(key for row in rows for key in row)
    table = [{key: row.get(key) for key in columns} for row in rows]
    series = sum(len(several) for several in found.values())
    notes = [f"{counted(len(rows), 'patient')} with a scan, {series} CT series below the folder"]
    if known:
        labelled = len(set(known) & set(found))
        without = counted(len(known) - labelled, "patient")
        notes.append(f"{labelled} of them have labels; {without} of the table of labels without a scan")
    return write_recipe_table(recipe, table, out, notes)


def lidc_sample(folder: Path, count: int) -> dict[str, Path]:
    """Patient → folder of a study, for ``count`` LIDC-IDRI patients, the same for the same patients on disk.

    Raises:
        UserError: fewer patients than that.
    """
    studies: dict[str, Path] = {}
    for place in sorted(series_folders(folder).values()):
        if len(list(place.iterdir())) >= FEWEST and place.name.startswith("CT_"):
            studies.setdefault(place.parent.parent.name, place.parent)
    if len(studies) < count:
        raise UserError(f"{folder} holds {len(studies)} patients of LIDC-IDRI with a CT, and {count} are needed.")
    chosen = pd.Series(sorted(studies)).sample(count, random_state=0).sort_values()
    return {name: studies[name] for name in chosen}
