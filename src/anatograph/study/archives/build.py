"""A cohort table from a public archive, a folder tree, a DICOMweb server or an IDC manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from anatograph.choices import Archive
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.study.archives.copdgene import copdgene
from anatograph.study.archives.covid_composite import covid_composite
from anatograph.study.archives.covid_ct_md import covid_ct_md
from anatograph.study.archives.ct_rate import ct_rate
from anatograph.study.archives.idc_collections import lidc_idri, nlst
from anatograph.study.archives.mosmeddata import mosmeddata
from anatograph.study.archives.osic import osic
from anatograph.study.archives.ricord import ricord
from anatograph.study.archives.table import Made
from anatograph.study.sources.dicomweb import dicomweb_cohort
from anatograph.study.sources.folder import folder_cohort
from anatograph.study.sources.idc import idc_cohort

_PLAIN: dict[str, Callable[[Path, Path], Made]] = {
    "covid-composite": covid_composite,
    "covid-ct-md": covid_ct_md,
    "ct-rate": ct_rate,
    "mosmeddata": mosmeddata,
    "osic": osic,
    "ricord-1a": ricord,
}
"""Recipes that need nothing but the unpacked archive."""
_LABELLED: dict[str, Callable[[Path, Path, Sequence[Path]], Made]] = {"lidc-idri": lidc_idri, "nlst": nlst}
"""Recipes that take tables of labels."""
_PHENOTYPES = {"copdgene", *_LABELLED}
_PATTERN = {"copdgene", "folder"}
_DOWNLOADS = {"dicomweb", "idc"}
ARCHIVES = ("folder", "dicomweb", "idc", "copdgene", *_PLAIN, *_LABELLED)


def build_cohort(
    archive: Archive,
    place: str | Path,
    out: str | Path,
    phenotypes: Sequence[str | Path] = (),
    pattern: str | None = None,
    downloads: str | Path | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Made:
    """Write a cohort table, and an account beside it.

    ``archive`` names a public archive whose unpacked folder is ``place``; or is ``folder`` (a folder tree),
    ``dicomweb`` (the address of a server) or ``idc`` (a manifest of the Imaging Data Commons).  ``phenotypes`` are
    tables of an archive's labels, ``pattern`` chooses scans, ``downloads`` is where the series of a server or a
    manifest lie or will lie.

    Raises:
        UserError: no such archive, an option that it does not have, or a place that does not look like it.
    """
    if archive not in ARCHIVES:
        raise UserError(f"There is no recipe for '{archive}'; choose one of {', '.join(ARCHIVES)}.")
    allowed = (
        ("phenotypes", phenotypes, _PHENOTYPES),
        ("pattern", pattern, _PATTERN),
        ("downloads", downloads, _DOWNLOADS),
    )
    for option, value, archives in allowed:
        if value and archive not in archives:
            raise UserError(f"--{option} is for {' and '.join(sorted(archives))}; {archive} does not use it.")
    if archive in _DOWNLOADS and downloads is None:
        raise UserError(f"{archive} needs --downloads DIR, the folder of its series.")
    if archive not in _DOWNLOADS and not Path(place).is_dir():
        raise UserError(f"There is no folder {place}; give the one where {archive} was unpacked.")
    given = [str(file) for file in phenotypes]
    settings = {"archive": archive, "folder": str(place), "phenotypes": given, "pattern": pattern,
                "downloads": None if downloads is None else str(downloads)}  # fmt: skip
    account = RunAccount("cohort", settings, out)
    # A refused request leaves no account, and does not replace that of an existing table.
    with account.stage("table"):
        if archive == "copdgene":
            made = copdgene(place, out, phenotypes, pattern)
        elif archive == "folder":
            made = folder_cohort(Path(place), Path(out), pattern)
        elif archive == "dicomweb":
            made = dicomweb_cohort(str(place), Path(out), Path(str(downloads)), say)
        elif archive == "idc":
            made = idc_cohort(Path(place), Path(out), Path(str(downloads)))
        elif archive in _LABELLED:
            made = _LABELLED[archive](Path(place), Path(out), [Path(file) for file in phenotypes])
        else:
            made = _PLAIN[archive](Path(place), Path(out))
    with account:
        for note in made.notes:
            account.note(note)
        account.result(subjects=made.subjects)
        account.output(made.path)
    return made
