"""All DICOM objects of one subject."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

from anatograph.errors import UserError
from anatograph.evaluation.densitometry.measuring import measure_subject
from anatograph.exchange.dicom.pixels import parametric_map, segmentation
from anatograph.exchange.dicom.report import measurement_report
from anatograph.exchange.dicom.source import read_source
from anatograph.exchange.maps import FoundMap
from anatograph.execution.files import whole_file
from anatograph.imaging.volume import Frame, Volume
from anatograph.imaging.writing import on_stored_grid
from anatograph.study.store import Study


def write_dicom(
    study: Study, subject_id: str, maps: Sequence[FoundMap], folder: Path, identified: bool
) -> tuple[list[Path], list[str]]:
    """Write ``lungs.dcm`` (SEG), ``report.dcm`` (SR) and a Parametric Map for each map; returns files and notes.

    All belong to the study of the subject's scan and refer to its slices.  Written twice from the same inputs they
    have the same UIDs.

    Raises:
        UserError: the extra is missing, or the subject's scan is not usable as `source.read_source` says.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise UserError(
            "DICOM output needs the package highdicom; install it with: pip install 'anatograph[dicom]'."
        ) from None
    subject = study.subject(subject_id)
    stored = subject.stored_frame
    place = Path(str(subject.about["source"].get("path", "")))
    if not place.exists():
        raise UserError(f"{place} no longer exists; restore the scan, or preprocess this subject again.")
    source = read_source(place, stored, identified)
    lungs = subject.lungs()
    like = Volume(np.broadcast_to(np.int16(0), lungs.frame.shape), lungs.frame, stored)
    image = on_stored_grid(lungs.array, like)
    grid = Frame.of_image(image)
    density, _ = measure_subject(study, subject_id)
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []

    def save(made: pydicom.Dataset, name: str) -> None:
        files.append(folder / name)
        made.SpecificCharacterSet = "ISO_IR 192"  # UTF-8, as names of targets may hold any letter
        with whole_file(files[-1], ".dcm") as part:
            made.save_as(part, enforce_file_format=True)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="pydicom|highdicom")
        mask = segmentation(source, sitk.GetArrayFromImage(image), grid, str(subject.about.get("lungs_from", "")))
        save(mask, "lungs.dcm")
        save(measurement_report(source, mask, subject, density), "report.dcm")
        for number, one in enumerate(maps, start=1):
            save(parametric_map(source, one.read(stored), grid, one.about, number), f"{one.stem}.dcm")
    return files, list(source.notes)
