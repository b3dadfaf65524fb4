"""A cohort table from a manifest of the Imaging Data Commons and the series that were downloaded by it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pandas as pd

from anatograph.errors import UserError
from anatograph.limits import MAX_TABLE_BYTES
from anatograph.study.archives.table import Made, write_recipe_table
from anatograph.study.sources.rows import FEWEST, columns_of, first_header, images_in, is_ct, unique_identifiers

_SERIES = "SeriesInstanceUID"
_UID = re.compile(r"[0-9]+(\.[0-9]+){3,}")


def idc_cohort(manifest: Path, out: Path, downloads: Path) -> Made:
    """Write the table of the CT series that a manifest lists and ``downloads`` holds.

    ``manifest`` is a table of idc-index (CSV with ``PatientID``, ``SeriesInstanceUID`` and, if given, ``Modality``,
    ``collection_id``, ``PatientSex``, ``PatientAge`` …) or an s5cmd manifest of the portal (``cp s3://… .``), which
    names no series: then every CT series below ``downloads`` counts.  A series is found by its UID in the name of its
    folder, as ``idc download`` lays them out: ``collection/patient/study/CT_SERIES``.

    Raises:
        UserError: a manifest of neither kind, or no series that was downloaded; the message has the command that
            downloads them.
    """
    rows, notes = _downloaded_series(manifest, downloads)
    return write_recipe_table("idc", rows, out, notes)


def _downloaded_series(manifest: Path, downloads: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the CT series on disk, with what the manifest says about each, and notes about the others."""
    listed = _listed(manifest)
    on_disk = series_folders(downloads)
    if listed is None:
        listed = {uid: {} for uid in sorted(on_disk)}
    rows: list[dict[str, Any]] = []
    small = missing = 0
    for uid, entry in listed.items():
        place = on_disk.get(uid)
        if place is None:
            missing += 1
            continue
        files = images_in(place)
        header = first_header(files)
        if not is_ct(header):
            continue
        if len(files) < FEWEST:
            small += 1
            continue
        patient = str(entry.get("PatientID") or header.get("PatientID") or uid)
        collection = entry.get("collection_id") or None
        about = {**columns_of(header), **{k: v for k, v in columns_of(entry).items() if v is not None}}
        rows.append({"image": place, **about, "patient": patient, "collection": collection, "images": len(files)})
    if not rows:
        raise UserError(
            f"{downloads} holds no CT series of {manifest.name}; download them with: "
            f"idc download {manifest.name} --download-dir {downloads}."
        )
    rows.sort(key=lambda row: (row["patient"], str(row["image"])))
    notes = [f"{len(rows)} CT series found"]
    if missing:
        notes.append(f"{missing} series of the manifest are not in {downloads}, left out")
    if small:
        notes.append(f"{small} series with fewer than {FEWEST} images passed over")
    names = unique_identifiers([row["patient"] for row in rows])
    used = [key for key in rows[0] if any(row[key] is not None for row in rows)]
    table = [{"subject_id": name, **{key: row[key] for key in used}} for name, row in zip(names, rows, strict=True)]
    return table, notes


def series_folders(downloads: Path) -> dict[str, Path]:
    """SeriesInstanceUID → folder, for all folders below ``downloads`` whose name ends in a UID and that hold files."""
    if not downloads.is_dir():
        raise UserError(f"There is no folder {downloads}; give --downloads, where the series of the manifest lie.")
    found: dict[str, Path] = {}
    for where, folders, names in os.walk(downloads):
        folders.sort()
        uid = Path(where).name.rpartition("_")[2]
        if names and _UID.fullmatch(uid):
            found.setdefault(uid, Path(where))
    return found


def _listed(manifest: Path) -> dict[str, dict[str, Any]] | None:
    """SeriesInstanceUID → row of a CSV manifest (CT only, where it says so); None for an s5cmd manifest.

    Raises:
        UserError: neither.
    """
    if not manifest.is_file() or manifest.stat().st_size > MAX_TABLE_BYTES:
        raise UserError(f"{manifest} is not a manifest; save one from the IDC portal or with idc-index.")
    with manifest.open(encoding="utf-8-sig", errors="replace") as lines:
        head = [line.strip() for line, _ in zip(lines, range(200), strict=False)]
    commands = [line for line in head if line and not line.startswith("#")]
    if commands and all(re.match(r"cp\b.*s3://", line) for line in commands):
        return None
    try:
        table = pd.read_csv(manifest, dtype="str", comment="#", keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{manifest} cannot be read as a manifest: {' '.join(str(error).split())[:200]}.") from error
    if _SERIES not in table.columns or "PatientID" not in table.columns:
        raise UserError(
            f"{manifest} has no columns PatientID and SeriesInstanceUID and is not an s5cmd manifest; save one from "
            "the IDC portal or with idc-index."
        )
    if "Modality" in table.columns:
        table = table[table["Modality"].str.upper() == "CT"]
    return {str(row[_SERIES]): {str(k): v for k, v in row.items()} for row in table.to_dict("records")}
