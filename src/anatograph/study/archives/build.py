"""A cohort table from a public archive, by the archive's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anatograph.choices import Archive
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.study.archives.copdgene import copdgene
from anatograph.study.archives.covid_ct_md import covid_ct_md
from anatograph.study.archives.mosmeddata import mosmeddata
from anatograph.study.archives.table import Made

ARCHIVES = ("copdgene", "covid-ct-md", "mosmeddata")


def build_cohort(
    archive: Archive,
    folder: str | Path,
    out: str | Path,
    phenotypes: Sequence[str | Path] = (),
    pattern: str | None = None,
) -> Made:
    """Write the cohort table of an unpacked archive, and an account beside it.

    ``phenotypes`` and ``pattern`` belong to COPDGene.

    Raises:
        UserError: no such archive, or a folder that does not look like it.
    """
    if archive not in ARCHIVES:
        raise UserError(f"There is no recipe for '{archive}'; there are {', '.join(ARCHIVES)}.")
    if archive != "copdgene" and (phenotypes or pattern):
        raise UserError(f"--phenotypes and --pattern are for copdgene; {archive} has its labels in its folders.")
    if not Path(folder).is_dir():
        raise UserError(f"There is no folder {folder}; give the one where {archive} was unpacked.")
    given = [str(file) for file in phenotypes]
    settings = {"archive": archive, "folder": str(folder), "phenotypes": given, "pattern": pattern}
    account = RunAccount("cohort", settings, out)
    # A request that is refused leaves no account, nor takes the place of that of a table that is there.
    with account.stage("table"):
        if archive == "copdgene":
            made = copdgene(folder, out, phenotypes, pattern)
        else:
            made = (mosmeddata if archive == "mosmeddata" else covid_ct_md)(folder, out)
    with account:
        for note in made.notes:
            account.note(note)
        account.result(subjects=made.subjects)
        account.output(made.path)
    return made
