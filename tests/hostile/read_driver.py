"""Reads the scans whose paths arrive on its input, in bounded memory, and prints how each ended (for test_fuzz.py)."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anatograph.anatomy.atlas import load_atlas
from anatograph.embedding.regions import Regions
from anatograph.errors import UserError
from anatograph.imaging.reading import read_volume
from anatograph.learning.model.folder import load_model
from anatograph.study.cohort import read_cohort
from anatograph.study.store import Study
from anatograph.study.subject import StoredSubject


def _study(path: Path) -> None:
    opened = Study.open(path)
    _ = opened.atlas, opened.subject_ids, opened.step_versions, opened.bytes_of_patches
    opened.read_patches(opened.subject_ids[:1], [0])


def _subject(path: Path) -> None:
    subject = StoredSubject(path, lambda: np.zeros(1, dtype=bool))
    _ = subject.about, subject.quality, subject.flags, subject.frame, subject.stored_frame
    _ = subject.landmarks, subject.edges, subject.present, subject.patches, subject.map()


def _regions(path: Path) -> None:
    regions = Regions(path)
    _ = regions.shape
    regions.of(regions.subject_ids[0])


READERS: dict[str, Callable[[Path], Any]] = {
    "scan": read_volume,
    "cohort": read_cohort,
    "atlas": load_atlas,
    "study": _study,
    "subject": _subject,
    "model": load_model,
    "regions": _regions,
}


def main() -> None:
    mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    most = mapped + int(sys.argv[1]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for line in sys.stdin:
        kind, path = json.loads(line)
        try:
            READERS[kind](Path(path))
            answer = "ok"
        except UserError as error:
            answer = "refused" if "\n" not in str(error).split(":\n  ")[0] else f"refused in several lines: {error!r}"
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        print("ANSWER " + " ".join(answer.split()), flush=True)


if __name__ == "__main__":
    main()
