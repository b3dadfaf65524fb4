"""A half-real cohort on disk: disease drawn into the scans of another cohort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anatograph.errors import UserError
from anatograph.execution.account import Failure
from anatograph.execution.progress import progress_over
from anatograph.imaging.lungs import segment_lungs
from anatograph.imaging.reading import read_mask, read_volume
from anatograph.phantoms.cohort import check_numbers, run_jobs
from anatograph.phantoms.folder import (
    claim_cohort,
    is_complete,
    plain_settings,
    subject_folder,
    write_masks,
    write_nifti,
    write_table,
    write_truth,
)
from anatograph.phantoms.onto.draw import draw_onto
from anatograph.phantoms.settings import PhantomSettings, settings_of

_LONGEST_NAME = 60
_PREFIX = "base_"


@dataclass(frozen=True)
class Base:
    """A real scan to draw into."""

    name: str
    """Its subject_id; results are called NAME-01, NAME-02 and so on."""
    image: Path
    """A volume file or a folder with a DICOM series."""
    lungs: Path | None = None
    """A lung mask; without one the lungs are found by thresholds."""
    labels: dict[str, Any] | None = None
    """Its other columns, which are kept with the prefix ``base_``; ``age`` enters lung function."""


@dataclass(frozen=True)
class _Job:
    """All drawings into one scan, so that it is read once."""

    out: str
    base: Base
    drawings: tuple[tuple[int, int | None], ...]
    """Number of the disease, and of the scan of that day (None where there is one)."""
    seed: int
    settings: PhantomSettings


def write_onto(
    out: str | Path,
    bases: Sequence[Base],
    per_scan: int = 8,
    seed: int = 0,
    workers: int = 1,
    *,
    settings: PhantomSettings | None = None,
    repeats: int = 1,
    progress: bool = True,
) -> tuple[Path, list[Failure]]:
    """Draw ``per_scan`` diseases into each of ``bases`` and write the results as a cohort into the folder ``out``.

    Returns its ``cohort.csv``, whose column ``base`` names the scan each was made of, and the scans that could not be
    used. A result depends on ``seed``, the name of its base and its number alone. An interrupted cohort continues
    where it stopped. Scans keep their own voxels, or get voxels of ``settings.spacing_mm`` where these are coarser;
    axes are those of `read_volume`. The scanners of ``settings`` are added to the scan's own acquisition (see `ADDED`).
    With several ``repeats`` each drawing is scanned as often on the same day, with
    another warp and other noise, and the columns person, visit and years (0) are added.

    Raises:
        UserError: when ``out`` holds anything other than this cohort, a number or name is out of range, or no scan
            could be used.
    """
    folder = Path(out)
    check_numbers(seed, workers)
    if not 1 <= per_scan <= 99:
        raise UserError(f"{per_scan} drawings per scan are not possible; choose 1 to 99.")
    long = [base.name for base in bases if len(base.name) > _LONGEST_NAME]
    if long:
        raise UserError(f"The name {long[0]} is too long to add a number to; shorten it to {_LONGEST_NAME} characters.")
    settings = settings or settings_of(onto=True)
    account = {"seed": seed, "onto": True, "settings": plain_settings(settings)}
    claim_cohort(folder, account | ({"repeats": repeats} if repeats > 1 else {}))

    visits: list[int | None] = [None] if repeats == 1 else list(range(repeats))
    wanted = [(k, visit) for k in range(per_scan) for visit in visits]
    jobs = []
    for base in bases:
        missing = tuple(one for one in wanted if not is_complete(folder, drawing_name(base.name, *one)))
        if missing:
            jobs.append(_Job(str(folder), base, missing, seed, settings))
    outcomes = progress_over(run_jobs(_work, jobs, workers), "half-real", "scan", total=len(jobs), shown=progress)
    failures = [failure for failure in outcomes if failure is not None]
    names = [drawing_name(base.name, *one) for base in bases for one in wanted]
    there = [name for name in names if is_complete(folder, name)]
    if not there:
        raise UserError(f"None of the {len(bases)} scans could be used; the first reason: {failures[0].reason}")
    return write_table(folder, there), sorted(failures, key=lambda failure: failure.subject_id)


def drawing_name(base: str, number: int, visit: int | None = None) -> str:
    """subject_id of drawing ``number`` into a base, and of its scan ``visit`` if there are several; both from 0."""
    drawing = f"{base}-{number + 1:02d}"
    return drawing if visit is None else f"{drawing}-v{visit + 1}"


def _work(job: _Job) -> Failure | None:
    """Make the drawings of one scan; what stopped them, if anything did."""
    base = job.base
    try:
        volume = read_volume(base.image)
        if base.lungs is not None:
            lungs, method = read_mask(base.lungs, volume), "given"
        else:
            lungs, method = segment_lungs(volume, "threshold").mask, "threshold"
        labels = base.labels or {}
        age = _number(labels.get("age"))
        for number, visit in job.drawings:
            drawn = draw_onto(volume, lungs, base.name, number, job.seed, job.settings, age, visit or 0)
            name = drawing_name(base.name, number, visit)
            of = {"person": drawing_name(base.name, number), "visit": (visit or 0) + 1, "years": 0.0}
            with subject_folder(Path(job.out), name) as building:
                home = Path("subjects") / name
                write_nifti(drawn.image, drawn.frame, building / "image.nii.gz")
                write_nifti(drawn.lungs, drawn.frame, building / "lungs.nii.gz")
                row = {
                    "subject_id": name,
                    "image": str(home / "image.nii.gz"),
                    "lungs": str(home / "lungs.nii.gz"),
                    "base": base.name,
                    **({} if visit is None else of),
                    **drawn.columns,
                    **{f"{_PREFIX}{column}": value for column, value in labels.items()},
                    **write_masks(building, drawn.masks, drawn.frame),
                }
                source = {"image": str(base.image), "lungs": method}
                write_truth(building, row, disease=asdict(drawn.disease), scanner=asdict(drawn.scanner), source=source)
    except UserError as error:
        return Failure(base.name, "draw", str(error))
    return None


def _number(value: Any) -> float | None:
    """A number, if it is one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < 130 else None
