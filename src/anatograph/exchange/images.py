"""Masks, maps and measurements of subjects for viewers: DICOM objects or 3D Slicer scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anatograph.choices import ImageExport
from anatograph.errors import UserError
from anatograph.exchange.dicom.subject import write_dicom
from anatograph.exchange.maps import find_maps, without_withheld
from anatograph.exchange.slicer import write_scene
from anatograph.execution.account import RunAccount
from anatograph.study.store import Study


@dataclass(frozen=True)
class ExportedImages:
    """What `export_images` wrote."""

    files: tuple[Path, ...]
    """Every file, by subject."""
    subjects: tuple[str, ...]
    """Those that have files."""
    account: RunAccount
    """Settings, notes and failures."""


def export_images(
    study: str | Path,
    out: str | Path,
    to: ImageExport,
    subjects: Sequence[str] | str = (),
    explanations: str | Path | None = None,
    identified: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> ExportedImages:
    """Write the lung mask, the maps and the measurements of subjects into the folder ``out``.

    ``dicom`` writes ``OUT/ID/``: the lungs as a segmentation, each map as a Parametric Map, densitometry and quality
    as a structured report (TID 1500), in the DICOM study of the scan.  Scans that still name a patient are refused
    unless ``identified``.  ``slicer`` writes ``OUT/ID.mrb``: the scan, the lungs, the landmarks, the maps and their
    colours as a scene.  ``subjects`` are all of the study if none is named; ``explanations`` is a folder that
    `explain`, `deviation` or `change` wrote.  A subject that cannot be exported is a failure, the others are done.

    Raises:
        UserError: not a study, a subject that it does not hold, no maps, a missing extra, or no subject that worked.
    """
    if to not in ("dicom", "slicer"):
        raise UserError(f"There is no format '{to}'; choose dicom or slicer.")
    if identified and to != "dicom":
        raise UserError("--identified is for --to dicom; a scene holds no header of the scan.")
    opened, folder = Study.open(study), Path(out)
    wanted = [subjects] if isinstance(subjects, str) else list(dict.fromkeys(subjects)) or opened.subject_ids
    unknown = [name for name in wanted if name not in opened]
    if unknown:
        raise UserError(f"The study {study} has no subject {', '.join(unknown[:3])}; `anatograph qc` lists them.")
    maps = find_maps(Path(explanations)) if explanations is not None else {}
    if maps and not set(maps) & set(wanted):
        raise UserError(
            f"{explanations} holds no map of {', '.join(wanted[:3])}; it has {', '.join(sorted(maps)[:3])}."
        )
    settings = {"study": str(study), "to": to, "subjects": wanted, "identified": identified,
                "explanations": None if explanations is None else str(explanations)}  # fmt: skip
    files: list[Path] = []
    done: list[str] = []
    with RunAccount("export-images", settings, folder) as account:
        for number, name in enumerate(wanted, start=1):
            shown, notes = without_withheld(maps.get(name, []))
            try:
                if to == "dicom":
                    written, more = write_dicom(opened, name, shown, folder / name, identified)
                    notes += more
                else:
                    written = [write_scene(opened, name, shown, folder / f"{name}.mrb")]
            except UserError as error:
                if len(wanted) == 1:
                    raise
                account.fail(name, "export-images", str(error))
                continue
            finally:
                if progress:
                    progress(name, number, len(wanted))
            files += written
            done.append(name)
            for note in notes:
                account.note(f"{name}: {note}")
        if not done:
            raise UserError(f"No subject could be exported; the first reason: {account.failures[0].reason}")
        for file in files:
            account.output(file)
        account.result(subjects=len(done))
    return ExportedImages(tuple(files), tuple(done), account)
