"""Registration with ANTs: the published affine recipe, and a deformable map (SyN) started from our affine one.

ANTs runs in a separate process on one thread: ITK reads its number of threads only once per process, and sums over
several threads are accumulated in a different order each time, so results would not be bit-identical.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from anatograph.anatomy.registration.displacement import LinearDisplacement
from anatograph.anatomy.registration.maps import AffineMap, DeformableMap
from anatograph.anatomy.registration.shape import Occupancy, Shape
from anatograph.errors import UserError
from anatograph.imaging.volume import Frame, Mask, vector

SIGMA = 3.0
"""Smoothing of the masks for SyN in mm."""
STEP = 3.5
"""Voxels of the masks for SyN in mm."""
MARGIN = 28.0
"""Air around the lungs for SyN in mm; the deformation fades out in it."""

_WORKER = """
import json, sys
from ants.internal import get_lib_fn, process_arguments
sys.exit(get_lib_fn("antsRegistration")(process_arguments(json.loads(sys.argv[1]))))
"""


def published_affine(atlas: Mask, lungs: Mask, seed: int = 0, start: AffineMap | None = None) -> AffineMap:
    """The published recipe: affine, Mattes mutual information of the masks at full resolution, from their centres.

    ``antsRegistration -t Affine[0.01] -m MI[..,1,32,Regular,0.5] -c [500x250x100] -s 2x1x0 -f 4x2x1``, started at the
    centres of mass or from ``start``. It takes minutes.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        fixed, moving = str(place / "fixed.nii.gz"), str(place / "moving.nii.gz")
        for mask, name in ((atlas, fixed), (lungs, moving)):
            sitk.WriteImage(mask.frame.to_image(mask.lungs.astype(np.uint8)), name)
        initial = f"[{fixed},{moving},1]"
        if start is not None:
            initial = str(start.save(place / "start.tfm"))
        metric = f"MI[{fixed},{moving},1,32,Regular,0.5]"
        schedule = ["-c", "[500x250x100]", "-s", "2x1x0", "-f", "4x2x1"]
        _run(["-o", f"{place}/out_", "-r", initial, "-t", "Affine[0.01]", "-m", metric, *schedule], seed)
        transform = sitk.ReadTransform(str(place / "out_0GenericAffine.mat"))
    offset = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(tuple(row))) - offset for row in np.eye(3).tolist()]
    return AffineMap(np.stack(columns, axis=1), offset)


def deform(atlas: Shape, subject: Shape, affine: AffineMap, seed: int = 0) -> DeformableMap:
    """Symmetric diffeomorphic map (SyN) of the smoothed masks, mean squares, starting from ``affine``."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        fixed, moving = str(place / "fixed.nii.gz"), str(place / "moving.nii.gz")
        for shape, name in ((atlas, fixed), (subject, moving)):
            _write_field(shape, shape.grid(SIGMA, STEP, MARGIN), name)
        start = str(affine.save(place / "start.tfm"))
        metric = f"MeanSquares[{fixed},{moving},1,0]"
        schedule = ["-c", "[80x60x30,1e-7,10]", "-s", "2x1x0vox", "-f", "4x2x1"]
        _run(["-o", f"{place}/out_", "-r", start, "-t", "SyN[0.2,3,0.5]", "-m", metric, *schedule], seed)
        fields = [
            LinearDisplacement.from_image(sitk.ReadImage(str(place / name), sitk.sitkVectorFloat64))
            for name in ("out_1Warp.nii.gz", "out_1InverseWarp.nii.gz")
        ]
    return DeformableMap(affine, *fields)


def _write_field(shape: Shape, field: Occupancy, path: str) -> None:
    z, y, x = field.values.shape
    frame = Frame((z, y, x), vector(field.spacing), vector(shape.to_lps(field.start)), shape.direction)
    sitk.WriteImage(frame.to_image(field.values), path)


def _run(arguments: list[str], seed: int) -> None:
    """Run antsRegistration on one thread.

    Raises:
        UserError: ANTs is not installed.
        RuntimeError: ANTs failed; the message is that of ANTs.
    """
    if importlib.util.find_spec("ants") is None:
        raise UserError("registration with ANTs needs antspyx: pip install 'anatograph[ants]', or use 'affine'")
    # ITK reads seed 0 as "seed from the clock".
    whole = ["-d", "3", "--float", "0", "--random-seed", str(seed + 1), *arguments]
    environment = {**os.environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _WORKER, json.dumps(whole)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        tail = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"antsRegistration ended with status {done.returncode}: {tail[0]}")
