"""The commands that write results in the formats of other tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anatograph.choices import ExportFormat, ImageExport, TableLayout
from anatograph.cli.command import Command, argument, option, required
from anatograph.cli.commands.options import Selecting
from anatograph.cli.output import finish
from anatograph.errors import counted


@dataclass(frozen=True, kw_only=True)
class Export(Selecting):
    """Write embeddings as a table for another tool: AnnData, CSV, Stata or R."""

    page = "export.md"
    embeddings: Path = argument("EMBEDDINGS", "table that `embed` wrote")
    out: Path = argument("OUT", "file to write; the format's ending is added")
    to: ExportFormat = required("anndata: OUT.h5ad; csv: OUT.csv; stata: OUT.dta; r: OUT.csv and OUT.R, which reads it")
    cohort: Path | None = option(None, "cohort table whose columns to add, paths excepted", metavar="COHORT")
    layout: TableLayout = option("wide", "one row per subject (wide), subject and feature, or subject and landmark")
    no_regions: bool = option(False, "leave out the regions, and the coordinates of the landmarks")

    def execute(self) -> int:
        """Write it and name the files."""
        done = self.call()
        print(f"Exported: {', '.join(str(file) for file in done.files)} ({done.subjects} subjects)")
        return finish(done.account)


@dataclass(frozen=True, kw_only=True)
class ExportImages(Command):
    """Write masks, maps and measurements of subjects as DICOM objects or 3D Slicer scenes."""

    page = "export-images.md"
    study: Path = argument("STUDY", "folder of the study")
    out: Path = argument("OUT", "folder to write to")
    to: ImageExport = required("dicom: OUT/ID/ with SEG, Parametric Maps and an SR; slicer: OUT/ID.mrb")
    subjects: tuple[str, ...] = option((), "subjects to write", flag="--subject", metavar="ID", unset="all")
    explanations: Path | None = option(None, "folder of maps that explain, deviation or change wrote", metavar="DIR")
    identified: bool = option(False, "allow scans that are not de-identified; results carry the patient's data")

    def execute(self) -> int:
        """Write them and count the files."""
        from anatograph.execution.progress import Progress

        with Progress("export-images", 0, "subject") as bar:
            done = self.call(progress=bar.reached)
        print(f"Exported: {self.out} ({counted(len(done.files), 'file')} of {counted(len(done.subjects), 'subject')})")
        return finish(done.account)
