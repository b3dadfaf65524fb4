"""Time of reading the DICOM headers of a folder, by Anatograph and by pydicom alone.

    OMP_NUM_THREADS=1 python benchmarks/dicom_headers.py FOLDER [--times 3]

Prints milliseconds of CPU a file, the best of several passes over a warm cache.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from anatograph.imaging.dicom.headers import folder_files, read_headers


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    files = folder_files(options.folder)
    for name, run in (("anatograph", lambda: read_headers(options.folder)), ("pydicom", lambda: _pydicom(files))):
        print(f"{name}: {1e3 * min(_seconds(run) for _ in range(options.times)) / len(files):.2f} ms a file")


def _pydicom(files: list[Path]) -> None:
    for file in files:
        try:
            pydicom.dcmread(file, stop_before_pixels=True)
        except InvalidDicomError:
            continue


def _seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


if __name__ == "__main__":
    main()
