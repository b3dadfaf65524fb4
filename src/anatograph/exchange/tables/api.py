"""Embeddings for other tools: AnnData, CSV, Stata, R."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anatograph.choices import ExportFormat, TableLayout
from anatograph.errors import UserError
from anatograph.exchange.tables.annotated import write_anndata
from anatograph.exchange.tables.content import read_content
from anatograph.exchange.tables.layouts import blocks
from anatograph.exchange.tables.stata import write_stata
from anatograph.exchange.tables.text import write_csv, write_r
from anatograph.execution.account import RunAccount

ENDINGS: dict[str, str] = {"anndata": ".h5ad", "csv": ".csv", "stata": ".dta", "r": ".csv"}
"""Of the file that each format writes."""
LAYOUTS = ("wide", "long", "regions")


@dataclass(frozen=True)
class Exported:
    """What `export` wrote."""

    files: tuple[Path, ...]
    """The table first."""
    subjects: int
    """How many subjects it holds."""
    account: RunAccount
    """Settings and notes."""


def export(
    embeddings: str | Path,
    out: str | Path,
    to: ExportFormat,
    cohort: str | Path | None = None,
    layout: TableLayout = "wide",
    no_regions: bool = False,
    include_flagged: bool = False,
    exclude: Sequence[str] = (),
) -> Exported:
    """Write embeddings in the format of another tool.

    ``anndata`` writes ``OUT.h5ad`` with regions in ``obsm``; ``csv`` and ``stata`` write ``OUT.csv`` and ``OUT.dta`` in
    one of three layouts (`anatograph.exchange.tables.layouts.blocks`); ``r`` writes a CSV and ``OUT.R``, which reads it
    with base R.  ``cohort`` adds its columns, but for paths.  Subjects in ``exclude`` or that the study's review
    excludes are left out, and those at level ``reject`` unless ``include_flagged``.  Values are written such that the
    same float32 is read back.

    Raises:
        UserError: a file that cannot be read, an ``out`` with another format's ending, a layout that the format or the
            embeddings cannot have, or a missing extra.
    """
    if to not in ENDINGS:
        raise UserError(f"There is no format '{to}'; choose one of {', '.join(ENDINGS)}.")
    if layout not in LAYOUTS:
        raise UserError(f"There is no layout '{layout}'; choose one of {', '.join(LAYOUTS)}.")
    if to == "anndata" and layout != "wide":
        raise UserError("AnnData has one layout, with the regions in obsm; leave --layout out.")
    path = _path(Path(out), to)
    content = read_content(embeddings, cohort, not no_regions or layout == "regions", include_flagged, exclude)
    if layout == "regions" and content.regions is None:
        raise UserError(f"{embeddings} has no store of regions beside it, so --layout regions has nothing to write.")
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"embeddings": str(embeddings), "to": to, "cohort": None if cohort is None else str(cohort),
                "layout": layout, "no_regions": no_regions, "include_flagged": include_flagged,
                "exclude": list(exclude)}  # fmt: skip
    files = [path]
    with RunAccount("export", settings, path) as account:
        for note in content.notes:
            account.note(note)
        if to == "anndata":
            write_anndata(path, content)
        elif to == "csv":
            write_csv(path, blocks(content, layout))
        elif to == "stata":
            renamed = write_stata(path, content, layout)
            for old, new in renamed.items():
                account.note(f"column '{old}' is the Stata variable {new}")
        else:
            files = write_r(path, content, layout)
        for file in files:
            account.output(file)
        account.result(subjects=len(content.subjects), features=content.features.shape[1])
    return Exported(tuple(files), len(content.subjects), account)


def _path(out: Path, to: ExportFormat) -> Path:
    ending = ENDINGS[to]
    if out.suffix.lower() == ending:
        return out
    others = {*ENDINGS.values(), ".parquet", ".tsv", ".r", ".feather", ".rds"} - {ending}
    if out.suffix.lower() in others:
        raise UserError(f"--to {to} writes {ending}, and {out} ends in {out.suffix}; give OUT without an ending.")
    return out.with_name(out.name + ending)
