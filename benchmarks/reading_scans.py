"""Time and peak memory of reading and sampling one 512 × 512 × 300 CT, each step in a process of its own.

    OMP_NUM_THREADS=1 python benchmarks/reading_scans.py [--scan FILE_OR_FOLDER] [--json FILE]

Without ``--scan`` a synthetic chest with scanner noise is used (the times hardly depend on the content).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

SHAPE = (300, 512, 512)
SPACING = (0.7, 0.7, 1.0)


def draw(folder: Path) -> None:
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE)
    rng = np.random.default_rng(0)
    array = np.empty(SHAPE, dtype=np.int16)
    for k, height in enumerate(z):
        plane = np.full(SHAPE[1:], -1000, dtype=np.float32)
        plane[(x[None] / 0.9) ** 2 + (y[:, None] / 0.7) ** 2 < 1] = 40
        for side in (-0.42, 0.42):
            plane[((x[None] - side) / 0.32) ** 2 + (y[:, None] / 0.5) ** 2 + height**2 < 0.9] = -850
        plane[(x[None] / 0.1) ** 2 + ((y[:, None] - 0.5) / 0.1) ** 2 < 1] = 600
        array[k] = np.maximum(plane + rng.normal(0, 25, plane.shape), -1024)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    for name in ("scan.nii.gz", "scan.nrrd"):
        sitk.WriteImage(image, str(folder / name), name.endswith(".gz"))
    sitk.WriteImage(sitk.DICOMOrient(sitk.Cast(image, sitk.sitkFloat32), "RAS"), str(folder / "float_ras.nii"))
    (folder / "dicom").mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(SHAPE[0]):
        plane = image[:, :, k]
        for key, value in {
            "0008|0060": "CT",
            "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0020|000e": "1.2.3",
            "0020|0032": f"0\\0\\{k}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-1024",
            "0028|1053": "1",
        }.items():
            plane.SetMetaData(key, value)
        writer.SetFileName(str(folder / "dicom" / f"{k}.dcm"))
        writer.Execute(plane)


def measure(step: str, scan: Path, queue: Any) -> None:
    from anatograph.imaging.reading import read_volume
    from anatograph.imaging.spline import SplineSampler

    before = resource.getrusage(resource.RUSAGE_SELF)
    clock = time.process_time()
    volume = read_volume(scan)
    size = volume.array.nbytes / 2**20
    if step != "read":
        clock = time.process_time()
    if step == "patches":
        middle = volume.frame.to_lps((np.asarray(volume.array.shape[::-1]) - 1) / 2)
        extent = np.array([150.0, 115.0, 130.0])
        sampler = SplineSampler(volume, (middle - extent - 16, middle + extent + 16))
        for centre in np.random.default_rng(0).uniform(middle - extent, middle + extent, (581, 3)):
            sampler.grid(centre, 32)
    seconds = time.process_time() - clock
    after = resource.getrusage(resource.RUSAGE_SELF)
    queue.put(
        {
            "step": step,
            "scan": scan.name,
            "cpu_seconds": round(seconds, 2),
            "scan_mib": round(size),
            "peak_mib_above_start": round((after.ru_maxrss - before.ru_maxrss) / 1024),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scans = [arguments.scan] if arguments.scan else []
        if not scans:
            drawing = context.Process(target=draw, args=(folder,))
            drawing.start()
            drawing.join()
            scans = [folder / part for part in ("scan.nii.gz", "scan.nrrd", "float_ras.nii", "dicom")]
        rows = []
        for step, scan in [*(("read", scan) for scan in scans), ("patches", scans[0])]:
            process = context.Process(target=measure, args=(step, scan, queue))
            process.start()
            rows.append(queue.get())
            process.join()
            print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
