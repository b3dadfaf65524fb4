"""Time and peak memory of preprocessing one CT of 512 × 512 × 300 voxels on one core, by stage.

    python benchmarks/preprocess.py [--image FILE_OR_FOLDER] [--lungs threshold] [--registration deformable]
        [--json FILE]

Without ``--image`` a phantom is resampled to 512 × 512 × 300 voxels.  The measured process has one thread and does
exactly what ``anatograph preprocess`` does for one subject; seconds are of processor time, so a busy machine does not
change them much, and memory is the resident set's peak within each stage.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = (512, 512, 300)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="scan to use instead of the phantom")
    parser.add_argument("--lungs", default="threshold")
    parser.add_argument("--registration", default="deformable")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--measure", nargs=2, type=Path, metavar=("IMAGE", "STUDY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure, options.lungs, options.registration)))
        return
    with tempfile.TemporaryDirectory() as folder:
        image = options.image or write_phantom(Path(folder) / "scan.nii.gz")
        threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
        command = [sys.executable, __file__, "--lungs", options.lungs, "--registration", options.registration]
        done = subprocess.run(
            [*command, "--measure", str(image), str(Path(folder) / "study")],
            env={**os.environ, **dict.fromkeys(threads, "1")},
            stdout=subprocess.PIPE,
            check=True,
            encoding="utf-8",
        )
    figures = json.loads(done.stdout.splitlines()[-1])
    print(f"{' × '.join(map(str, figures['size']))} voxels, {figures['landmarks']} landmarks, lungs {figures['lungs']}")
    print(f"| stage | seconds | peak MB |\n|---|---|---|\n| (start, imports, atlas) | | {figures['start_mb']:.0f} |")
    for stage, (seconds, memory) in figures["stages"].items():
        print(f"| {stage} | {seconds:.2f} | {memory:.0f} |")
    print(f"| **in all** | **{figures['seconds']:.1f}** | **{figures['peak_mb']:.0f}** |")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def write_phantom(path: Path) -> Path:
    """A phantom subject in 512 × 512 × 300 voxels, with a scanner's noise on them."""
    import numpy as np
    import SimpleITK as sitk

    from anatograph.phantoms import PhantomSettings, make_subject

    volume = make_subject(1, 0, PhantomSettings(spacing_mm=2.0)).volume
    coarse = sitk.GetImageFromArray(volume.array.astype(np.float32))
    coarse.SetSpacing(volume.spacing)
    coarse.SetOrigin(volume.origin)
    spacing = [n * s / size for n, s, size in zip(volume.array.shape[::-1], volume.spacing, SIZE, strict=True)]
    fine = sitk.Resample(
        coarse, SIZE, sitk.Transform(), sitk.sitkLinear, volume.origin, spacing, coarse.GetDirection(), -1000.0
    )
    array = sitk.GetArrayFromImage(fine)
    array += np.random.default_rng(0).normal(0, 20, array.shape).astype(np.float32)
    image = sitk.GetImageFromArray(np.clip(np.rint(array), -1024, 3071).astype(np.int16))
    image.CopyInformation(fine)
    sitk.WriteImage(image, str(path))
    return path


def measure(image: Path, folder: Path, lungs: str, registration: str) -> dict[str, object]:
    """Preprocess one scan in this process."""
    from anatograph.anatomy.atlas import default_atlas
    from anatograph.imaging.reading import read_volume
    from anatograph.study.prepare import Stages, prepare_subject
    from anatograph.study.quality.picture import draw_qc
    from anatograph.study.settings import PreprocessSettings
    from anatograph.study.source import fingerprint
    from anatograph.study.store import Study

    peaks: dict[str, float] = {}

    class Measured(Stages):
        @contextmanager
        def __call__(self, name: str) -> Iterator[None]:
            reset_peak()
            begin, before = time.process_time(), self.timings.get(name, 0.0)
            with super().__call__(name):
                yield
            self.timings[name] = before + time.process_time() - begin
            peaks[name] = max(peaks.get(name, 0.0), peak_mb())

    settings = PreprocessSettings(lungs=lungs, registration=registration)  # type: ignore[arg-type]
    study = Study.create(folder, default_atlas(), settings)
    start_mb = peak_mb()
    stages = Measured()
    with stages("read"):
        volume = read_volume(image)
        fingerprint(image)
    subject = prepare_subject(volume, None, study.atlas, settings, subject_id="scan", stages=stages)
    with stages("write"):
        study.write_subject(subject, lambda path: draw_qc(subject, study.atlas, path))
    return {
        "size": list(volume.array.shape[::-1]),
        "landmarks": len(subject.landmarks),
        "lungs": subject.lung_method,
        "start_mb": start_mb,
        "stages": {name: (seconds, peaks[name]) for name, seconds in stages.timings.items()},
        "seconds": sum(stages.timings.values()),
        "peak_mb": max(peaks.values()),
    }


def reset_peak() -> None:
    """Have Linux count the peak of resident memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Peak of resident memory since `reset_peak`, MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    main()
