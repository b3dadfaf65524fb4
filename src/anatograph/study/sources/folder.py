"""A cohort table from a folder tree: one row for every volume file and every folder of CT slices."""

from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from anatograph.errors import UserError, counted
from anatograph.imaging.dicom.elements import looks_like_dicom
from anatograph.imaging.writing import volume_name
from anatograph.limits import MAX_FOLDER_FILES
from anatograph.study.archives.table import Made, write_recipe_table
from anatograph.study.sources.rows import FEWEST, columns_of, first_header, is_ct, unique_identifiers

_MASK = re.compile(r"(^|[_.-])(mask|masks|seg|label|labels|lung|lungs|lungmask)([_.-]|$)", re.IGNORECASE)


def folder_cohort(root: Path, out: Path, pattern: str | None = None) -> Made:
    """Write the table of all chest-CT candidates below ``root``.

    A scan is a volume file (NIfTI, NRRD, MetaImage) or a folder that holds at least 16 DICOM files of modality CT.
    Links to folders are followed, each folder being taken once.
    Files named as masks (``_mask``, ``_seg``, ``_lungs`` …) are passed over; one beside a scan, named ``SCAN_lungs`` or
    ``SCAN_mask``, becomes its ``lungs``.  ``pattern`` (glob, on the path below ``root`` or the name) chooses scans.

    ``subject_id`` is the first folder below ``root`` where each of these holds one scan, else the path, its parts
    joined by ``_``.  Of DICOM scans the table also has PatientID as ``patient``, sex, age and scanner.

    Raises:
        UserError: no scan, or more files than are searched.
    """
    found: list[tuple[Path, dict[str, Any]]] = []
    passed: Counter[tuple[str, str]] = Counter()
    seen = 0
    visited: set[str] = set()
    for where, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(where)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = _own(where, folders, root)
        seen += len(names)
        if seen > MAX_FOLDER_FILES * 100:
            raise UserError(f"{root}: more than {MAX_FOLDER_FILES * 100:,} files; give the folder of one data set.")
        place = Path(where)
        files = [place / name for name in sorted(names) if not name.startswith(".")]
        volumes = {name: file for file in files if (name := volume_name(file)) is not None}
        for name, file in volumes.items():
            if _MASK.search(name):
                passed["file", "named as masks"] += 1
            else:
                found.append((file, {"lungs": _mask_of(name, volumes)}))
        slices = [] if volumes else [file for file in files if looks_like_dicom(file)]
        if slices:
            header = first_header(slices)
            if not is_ct(header):
                passed["folder", "of DICOM that is not CT"] += 1
            elif len(slices) < FEWEST:
                passed["folder", f"with fewer than {FEWEST} CT images"] += 1
            else:
                found.append((place, columns_of(header)))
    chosen = [(path, more) for path, more in found if pattern is None or _fits(path, root, pattern)]
    if not chosen:
        hint = f" that matches {pattern}" if found else ""
        raise UserError(f"{root} holds no scan{hint}; give a folder with volume files or folders of CT slices.")
    names = unique_identifiers(_names([path.relative_to(root) for path, _ in chosen]))
    rows = [{"subject_id": name, "image": path, **more} for name, (path, more) in zip(names, chosen, strict=True)]
    known = Counter(row.get("patient") for row in rows if row.get("patient"))
    several = sum(count > 1 for count in known.values())
    notes = [f"{counted(len(rows), 'scan')} found"]
    passed["file", "named as masks"] -= sum(more.get("lungs") is not None for _, more in found)
    if masks := sum(more.get("lungs") is not None for _, more in chosen):
        notes[0] += f", {counted(masks, 'lung mask')} beside them"
    notes += [f"{counted(count, noun)} {what} passed over" for (noun, what), count in sorted(passed.items()) if count]
    if several:
        notes.append(
            f"{counted(several, 'patient')} with several scans: give --group patient to evaluate, or choose with "
            "--pattern"
        )
    return write_recipe_table("folder", _filled(rows), out, notes)


def _own(where: str, folders: list[str], root: Path) -> list[str]:
    """Folders in ascending order, without links to others below ``root``, which are found at their own place."""
    inside, here = root.resolve(), Path(where)
    return [n for n in sorted(folders) if not ((here / n).is_symlink() and (here / n).resolve().is_relative_to(inside))]


def _fits(path: Path, root: Path, pattern: str) -> bool:
    return fnmatch.fnmatch(path.name, pattern) or fnmatch.fnmatch(path.relative_to(root).as_posix(), pattern)


def _names(paths: list[Path]) -> list[str]:
    """The first part of each path if all differ, else the whole path."""
    whole = [[*path.parts[:-1], volume_name(path) or path.name] for path in paths]
    first = [parts[0] for parts in whole]
    if len(set(first)) == len(first):
        return first
    return ["_".join(parts)[-64:] for parts in whole]


def _mask_of(name: str, volumes: dict[str, Path]) -> Path | None:
    return next((volumes[other] for end in ("_lungs", "_lung", "_mask") if (other := f"{name}{end}") in volumes), None)


def _filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row with the columns that any row has a value for."""
    used = list(dict.fromkeys(key for row in rows for key, value in row.items() if value is not None))
    return [{key: row.get(key) for key in used} for row in rows]
