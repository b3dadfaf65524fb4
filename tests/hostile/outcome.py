"""The outcome of an awkward input, in the words that the user sees."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from anatograph.anatomy.atlas import Atlas, build_atlas
from anatograph.errors import UserError
from anatograph.imaging.reading import read_volume
from anatograph.study.cohort import read_cohort
from anatograph.study.prepare import prepare_subject
from hostile import chests, dicoms, files, grids, mixtures, tables, values
from hostile.case import CASES, Case
from hostile.material import person

GROUPS = {
    "Damaged and harmful volume files": files,
    "Geometry of volume files": grids,
    "Values of volume files": values,
    "DICOM series": dicoms,
    "Mixed DICOM folders": mixtures,
    "Chests": chests,
    "Cohort tables": tables,
}


@cache
def small_atlas() -> Atlas:
    """Some hundred landmarks on the drawn person's lungs."""
    return build_atlas(person().lungs, patch_size=16, step=36)


def outcome(case: Case, folder: Path) -> str:
    """Make an input and use it as `preprocess` would."""
    path = case.build(folder)
    end = "usable"
    try:
        flags: tuple[str, ...] = ()
        notes: tuple[str, ...] = ()
        if case.way == "table":
            read_cohort(path)
        elif case.way == "scan":
            flags = read_volume(path).flags
        else:
            subject = prepare_subject(read_volume(path), None, small_atlas())
            concerns, end = subject.concerns, "level reject" if subject.level == "reject" else end
            flags = tuple(one.reason for one in concerns if one.level != "note")
            notes = tuple(one.reason for one in concerns if one.level == "note")
    except UserError as error:
        return str(error).replace(str(path), "SCAN" if case.way != "table" else "TABLE").replace(str(folder) + "/", "")
    parts = (("flagged", flags), ("noted", notes))
    return ", ".join([end, *(f"{word}: {'; '.join(said)}" for word, said in parts if said)])


def cases_of(group: str) -> list[Case]:
    """The cases of one part of the page."""
    return [case for case in CASES if case.build.__module__ == GROUPS[group].__name__]
