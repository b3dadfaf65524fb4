"""A cohort table from a DICOMweb server, whose CT series are downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from anatograph.errors import UserError
from anatograph.execution.files import whole_folder
from anatograph.study.archives.table import Made, write_recipe_table
from anatograph.study.sources.rows import FEWEST, columns_of, first_header, identifier, unique_identifiers

TOKEN_VARIABLE = "ANATOGRAPH_DICOMWEB_TOKEN"
"""Environment variable with a bearer token, where the server requires one."""
_PAGE = 100
_SECONDS = 60.0
_FIELDS = {
    "PatientID": "00100020", "PatientSex": "00100040", "StudyInstanceUID": "0020000D", "SeriesInstanceUID": "0020000E",
    "Modality": "00080060", "NumberOfSeriesRelatedInstances": "00201209",
}  # fmt: skip


def dicomweb_cohort(url: str, out: Path, downloads: Path, say: Callable[[str], None] = lambda sentence: None) -> Made:
    """Search a server for CT series (QIDO-RS), fetch those with at least 16 images (WADO-RS), and write their table.

    Series lie in ``downloads/STUDY/SERIES/``, each whole or absent; one that exists is not fetched again.
    ``subject_id`` is the PatientID, with ``_2`` and so on for further series of a patient; ``patient`` is always the
    PatientID.
    A series that cannot be fetched whole is left out, with a note.

    Raises:
        UserError: the extra is missing, the server cannot be reached or refuses, or no series is usable.
    """
    try:
        import requests
        from dicomweb_client.api import DICOMwebClient
    except ImportError:
        raise UserError(
            "A DICOMweb server needs the package dicomweb-client; install it with: pip install 'anatograph[dicomweb]'."
        ) from None
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url} is not the address of a DICOMweb server; give one that begins with https://.")
    token = os.environ.get(TOKEN_VARIABLE)
    headers = {"Authorization": f"Bearer {token}"} if token else None
    client = DICOMwebClient(url.rstrip("/"), headers=headers, timeout=_SECONDS)
    client.set_http_retry_params(max_attempts=3, wait_exponential_multiplier=200)
    try:
        found = [series for series in _search(client) if series["Modality"] == "CT"]
    except (requests.RequestException, ValueError) as error:
        raise UserError(
            f"{url} cannot be searched ({_reason(error)}); check the address and {TOKEN_VARIABLE}."
        ) from error
    wanted = [one for one in found if int(one["NumberOfSeriesRelatedInstances"] or FEWEST) >= FEWEST]
    wanted.sort(key=lambda one: (one["PatientID"], one["SeriesInstanceUID"]))
    rows: list[dict[str, Any]] = []
    notes = [f"{len(found)} CT series on the server"]
    if small := len(found) - len(wanted):
        notes.append(f"{small} with fewer than {FEWEST} images passed over")
    for number, one in enumerate(wanted, start=1):
        try:
            place = _fetch(client, one, downloads)
        except (requests.RequestException, ValueError, OSError, UserError) as error:
            notes.append(f"series {number} of {len(wanted)} could not be fetched ({_reason(error)}) and is left out")
            continue
        say(f"[{number}/{len(wanted)}] {place}")
        header = first_header(sorted(place.iterdir()))
        rows.append(
            {"image": place, **columns_of({} if header is None else header), "patient": one["PatientID"] or None}
        )
    if not rows:
        raise UserError(f"{url}: {'; '.join(notes)}; no series can be used.")
    names = unique_identifiers([str(row["patient"] or "unknown") for row in rows])
    table = [{"subject_id": name, **row} for name, row in zip(names, rows, strict=True)]
    return write_recipe_table("dicomweb", table, out, notes)


def _search(client: Any) -> list[dict[str, str]]:
    """The series of modality CT, page by page, by keyword."""
    found: dict[str, dict[str, str]] = {}
    offset = 0
    while True:
        page = client.search_for_series(
            search_filters={"Modality": "CT"}, fields=list(_FIELDS), limit=_PAGE, offset=offset
        )
        offset += len(page)
        known = len(found)
        for series in page:
            one = {keyword: _value(series, tag) for keyword, tag in _FIELDS.items()}
            found[one["SeriesInstanceUID"]] = one
        if len(page) < _PAGE or len(found) == known:  # a server may ignore the offset and send the same page for ever
            return [one for uid, one in found.items() if uid]


def _value(series: Mapping[str, Any], tag: str) -> str:
    values = series.get(tag, {}).get("Value", [])
    return str(values[0]) if values else ""


def _fetch(client: Any, series: Mapping[str, str], downloads: Path) -> Path:
    """Download a series and return its folder."""
    study, uid = series["StudyInstanceUID"], series["SeriesInstanceUID"]
    place = downloads / identifier(study) / identifier(uid)
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(place, downloads / ".unfinished") as folder:
        count = 0
        for data in client.iter_series(study, uid):
            count += 1
            data.save_as(folder / f"{count:05d}.dcm", enforce_file_format=True)
        expected = series["NumberOfSeriesRelatedInstances"]
        if expected and count != int(expected):
            raise UserError(f"{count} of {expected} images arrived")
    return place


def _reason(error: Exception) -> str:
    """One line about an error of the network."""
    response = getattr(error, "response", None)
    status = f"HTTP {response.status_code}" if response is not None else ""
    return status or f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
