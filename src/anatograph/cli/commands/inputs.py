"""The commands that make inputs: phantoms, atlases, and the cohort tables of public archives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anatograph.choices import Archive, ImageFormat
from anatograph.cli.command import Command, argument, option
from anatograph.cli.output import DONE, finish, say
from anatograph.errors import counted


@dataclass(frozen=True, kw_only=True)
class Phantom(Command):
    """Write a chest-CT cohort with known disease: synthetic, or drawn into real scans."""

    page = "phantom.md"
    out: Path = argument("OUT", "folder for cohort.csv, images and disease masks")
    subjects: int | None = option(None, "number of synthetic subjects", metavar="N", minimum=1)
    onto: Path | None = option(None, "draw disease into the real scans of this table instead", metavar="COHORT")
    per_scan: int = option(8, "with --onto: drawings into each scan", metavar="K", minimum=1)
    seed: int = option(0, "the same seed gives the same subjects")
    format: ImageFormat = option("nifti")
    workers: int = option(1, "processes", metavar="N", minimum=1)
    sites: str | None = option(None, "scanners to simulate, or random", unset="all", metavar="A,B")
    diseases: str | None = option(None, "diseases of the subjects: copd, covid", unset="both", metavar="D,E")
    spacing: float | None = option(
        None, "isotropic voxels of this size (with --onto: no finer voxels); 2.5 makes small scans", metavar="MM"
    )
    events: bool = option(False, "add the time-to-event columns event and event_years")
    visits: int = option(1, "scans of each subject, with progression in synthetic ones", metavar="K", minimum=1)
    interval: float = option(1.5, "time between visits; 0 repeats the scan on one day", metavar="YEARS")
    expiration: bool = option(False, "scan each synthetic subject at inspiration and at expiration")

    def execute(self) -> int:
        """Write the cohort and name its table."""
        from anatograph.execution.account import RunAccount

        account = RunAccount("phantom", {}, self.out)
        print(f"Cohort: {self.call(account=account)}")
        return finish(account)


@dataclass(frozen=True, kw_only=True)
class Atlas(Command):
    """Build an atlas: landmarks and location codes, from one subject or a group."""

    page = "atlas.md"
    image_or_mask: Path = argument("IMAGE_OR_MASK", "a lung mask, a chest CT, or a cohort table with --groupwise")
    out: Path = argument("OUT", "folder of the atlas")
    lungs: Path | None = option(None, "lung mask of the CT", unset="segmented", metavar="MASK")
    patch_size: int = option(32, "edge length of a patch", metavar="MM")
    step: int = option(26, "spacing of the landmark grid", metavar="MM")
    min_coverage: float = option(
        0.1, "a grid point is a landmark if more than this fraction of its patch is lung", metavar="SHARE"
    )
    groupwise: bool = option(False, "the mean shape of a cohort's own subjects; an interrupted run continues")
    iterations: int = option(4, "rounds of --groupwise", minimum=1)

    def execute(self) -> int:
        """Build it and print its size and hash."""
        built = self.call()
        print(f"Atlas: {self.out} ({len(built)} landmarks, hash {built.hash[:12]})")
        return DONE


@dataclass(frozen=True, kw_only=True)
class Cohort(Command):
    """Write a cohort table: of a folder tree, a DICOMweb server, an IDC manifest or a public archive."""

    function = "build_cohort"
    page = "cohort-tables.md"
    archive: Archive = argument("SOURCE", "folder, dicomweb, idc, or the name of a public archive")
    place: str = argument("PLACE", "folder of the scans or the unpacked archive; address of a server; manifest")
    out: Path = argument("OUT.csv", "the table to write")
    phenotypes: tuple[Path, ...] = option((), "tables with an archive's labels", metavar="FILE")
    pattern: str | None = option(None, "scans to take, such as '*_INSP_STD_*'", metavar="GLOB")
    downloads: Path | None = option(
        None, "folder of the series: where dicomweb saves them, or where the files of an IDC manifest lie",
        metavar="DIR",
    )  # fmt: skip

    def execute(self) -> int:
        """Write the table and say how many subjects it has."""
        made = self.call(say=say)
        for note in made.notes:
            say(f"note: {note}")
        print(f"Cohort: {made.path} ({counted(made.subjects, 'subject')})")
        return DONE
