"""One page of thumbnails to look through: keyboard driven, offline, verdicts exported as ``review.csv``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.execution.files import write_text
from anatograph.execution.progress import progress_over
from anatograph.study.quality.levels import LEVELS, Level, separate
from anatograph.study.quality.picture import slices_box
from anatograph.study.quality.selection import read_reviews
from anatograph.study.quality.table import read_levels
from anatograph.study.quality.webp import webp
from anatograph.study.store import Study
from anatograph.study.subject import StoredSubject

EACH = 200
"""Scans shown at a time."""
WIDTH = 420
"""Pixels across a thumbnail."""
MOST = 5000
"""Scans of which thumbnails fit into one page; of more, the page shows the pictures in the study's folder."""


def qc(study: str | Path, out: str | Path, progress: bool = False) -> Path:
    """Write a page with a thumbnail, the level and the reasons of every scan of a study, the worst first.

    The page opens offline in a browser.  Verdicts (keep, exclude, a comment) are given by key and exported as
    ``review.csv``, which belongs into the study's folder; verdicts that are there already are shown.

    Args:
        study: folder of the study.
        out: the page, ``*.html``.
        progress: whether to show progress on the standard error stream.

    Returns:
        The page.

    Raises:
        UserError: not a study, an empty one, a name that is not HTML, or a ``review.csv`` that cannot be read.
    """
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"The page {path} needs a name that ends in .html.")
    opened = Study.open(study)
    if not len(opened):
        raise UserError(f"The study {opened.path} holds no scan to look at; run `anatograph preprocess` first.")
    with RunAccount("qc", {"study": str(study)}, path) as account:
        levels, reviewed = read_levels(opened.path), review_data(opened.path)
        small = len(opened) <= MOST
        scans = []
        for name in progress_over(opened.subject_ids, "qc", "scan", shown=progress):
            try:
                subject = opened.subject(name)
                level, reasons = judged(subject, levels)
            except UserError as error:
                account.fail(name, "qc", str(error))
                continue
            scans.append({"id": name, "level": level, "reasons": reasons, **_pictures(subject, path, small)})
        scans.sort(key=lambda scan: -LEVELS.index(scan["level"]))
        if not small:
            account.note(
                f"{len(scans)} thumbnails would make the page too large, so it shows the pictures in the study's "
                "folder; keep the page beside that folder"
            )
        data = {"title": opened.path.resolve().name, "each": EACH, "scans": scans, **reviewed}
        static = resources.files("anatograph.study.quality").joinpath("static")
        template = static.joinpath("gallery.html").read_text("utf-8").replace("/*REVIEWS*/", review_script())
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, template.replace("/*DATA*/", json.dumps(data).replace("<", "\\u003c")))
        account.output(path)
        account.result(scans=len(scans), **{level: sum(s["level"] == level for s in scans) for level in LEVELS})
    return path


def judged(subject: StoredSubject, levels: Mapping[str, tuple[Level, str]]) -> tuple[Level, list[str]]:
    """Level and reasons of a scan, from ``levels`` (of ``quality.csv``) if it is listed there."""
    if subject.subject_id in levels:
        level, reasons = levels[subject.subject_id]
        return level, separate(reasons)
    return subject.level, [str(concern) for concern in subject.concerns]


def review_script() -> str:
    """The script by which a page keeps the reader's verdicts and exports them: the class ``Reviews``."""
    return resources.files("anatograph.study.quality").joinpath("static/review.js").read_text("utf-8")


def review_data(study: Path) -> dict[str, Any]:
    """What ``Reviews`` is made with: a key of the study that names no path, and the verdicts of ``review.csv``.

    Raises:
        UserError: a ``review.csv`` that cannot be read.
    """
    place = str(study.resolve()).encode("utf-8", "surrogateescape")
    known = {n: {"verdict": one.verdict or "", "comment": one.comment} for n, one in read_reviews(study).items()}
    return {"key": hashlib.sha256(place).hexdigest()[:16], "reviews": known}


def _pictures(subject: StoredSubject, page: Path, small: bool) -> dict[str, str]:
    """The picture as a path from the page, and a thumbnail of it as a data URL, empty where there is none."""
    place = Path(os.path.relpath(subject.picture.resolve(), page.resolve().parent)).as_posix()
    return {"picture": place, "thumb": _thumbnail(subject.picture) if small else ""}


def _thumbnail(picture: Path) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(picture) as image:
            slices = image.convert("RGB").crop(slices_box(*image.size))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return ""
    slices.thumbnail((WIDTH, WIDTH))
    return f"data:image/webp;base64,{webp(slices, 60)}"
