"""MIDRC-RICORD-1A: chest CTs of COVID-19 patients with readings of radiologists."""

from __future__ import annotations

from pathlib import Path
from statistics import multimode
from typing import Any

from anatograph.errors import UserError
from anatograph.limits import read_json
from anatograph.study.archives.table import Made, write_recipe_table
from anatograph.study.sources.rows import FEWEST, columns_of, first_header, is_ct, unique_identifiers

PUBLISHED = (110, 120)
"""Patients and studies of the published archive (Tsai et al. 2021)."""
_APPEARANCES = ("typical", "indeterminate", "atypical", "negative")


def ricord(folder: Path, out: Path) -> Made:
    """Write the table of all CT studies below ``folder``, as the NBIA Data Retriever or IDC lay them out.

    ``image`` is the folder of the study, from whose series the reader chooses.  ``appearance`` (typical,
    indeterminate, atypical, negative) and ``readers`` are the majority of the readings in
    ``MIDRC-RICORD-1a_annotations*.json`` (MD.ai), if it lies in ``folder``; ``covid`` is 1, as all were positive.

    Raises:
        UserError: no CT study, or a file of annotations that is not one.
    """
    readings = _readings(folder)
    studies: dict[str, tuple[Path, Any]] = {}
    for place in sorted(path for path in folder.rglob("*") if path.is_dir()):
        files = sorted(file for file in place.iterdir() if file.suffix.lower() == ".dcm")
        header = first_header(files) if len(files) >= FEWEST else None
        if is_ct(header):
            studies.setdefault(str(header.get("StudyInstanceUID")), (place.parent, header))
    if not studies:
        raise UserError(f"{folder} holds no CT study; give the folder that MIDRC-RICORD-1A was downloaded to.")
    ordered = sorted(studies.items(), key=lambda one: (str(one[1][1].get("PatientID")), str(one[1][0])))
    names = unique_identifiers([str(header.get("PatientID") or uid) for uid, (_, header) in ordered])
    rows = []
    for name, (uid, (place, header)) in zip(names, ordered, strict=True):
        read = readings.get(uid, [])
        most = multimode(read)
        rows.append({
            "subject_id": name,
            "image": place,
            **columns_of(header),
            "covid": 1,
            "appearance": most[0] if len(most) == 1 else None,
            "readers": len(read),
        })  # fmt: skip
    patients = len({row["patient"] for row in rows})
    notes = [f"studies: {len(rows)}, patients: {patients}"]
    if (patients, len(rows)) != PUBLISHED:
        notes.append(f"the published archive has {PUBLISHED[1]} studies of {PUBLISHED[0]} patients")
    notes.append(f"studies with a majority of the readings: {sum(row['appearance'] is not None for row in rows)}")
    return write_recipe_table("ricord-1a", rows, out, notes)


def _readings(folder: Path) -> dict[str, list[str]]:
    """StudyInstanceUID → appearance by each reading of the whole study."""
    files = sorted(folder.glob("MIDRC-RICORD-1a_annotations*.json"))
    if not files:
        return {}
    try:
        project = read_json(files[-1])
        labels = {str(one["id"]): _appearance(str(one["name"]))
                  for group in project["labelGroups"] for one in group["labels"]}  # fmt: skip
        annotations = [one for data in project["datasets"] for one in data["annotations"]]
        found: dict[str, list[str]] = {}
        for one in annotations:
            appearance = labels.get(str(one.get("labelId")))
            if appearance and not one.get("SOPInstanceUID"):
                found.setdefault(str(one["StudyInstanceUID"]), []).append(appearance)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{files[-1]} is not the archive's file of annotations; download it again.") from error
    return found


def _appearance(name: str) -> str:
    return next((one for one in _APPEARANCES if name.lower().startswith(one)), "")
