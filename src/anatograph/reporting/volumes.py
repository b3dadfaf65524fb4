"""Scans and maps small enough to travel in a page: cropped to the lungs, in coarser voxels of one byte."""

from __future__ import annotations

import base64
import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.volume import Frame, Mask, Volume

HU_RANGE = (-1100.0, 500.0)
"""HU that the byte of a voxel spans; 6.3 HU a step, finer than any window on the page shows."""
_MARGIN = 15.0
"""mm kept around the lungs."""
SPACINGS = ((1.0, 1.0), (1.0, 1.5), (1.5, 1.5), (1.5, 2.0), (1.5, 3.0), (2.0, 2.0), (2.0, 3.0), (2.5, 2.5), (3.0, 3.0),
            (4.0, 4.0))  # fmt: skip
"""Voxel sizes in mm that are tried, in axial planes and between them; the first that fits is taken."""
_BYTES_PER_VOXEL = 0.75
"""Of a voxel's byte after gzip, about, before base64."""


@dataclass(frozen=True, eq=False)
class SmallVolume:
    """A byte a voxel on a grid along L, P and S."""

    codes: NDArray[np.uint8]
    """(z, y, x); what a code means is slope * code + intercept."""
    frame: Frame
    """Where the voxels lie."""
    slope: float
    """Units a step."""
    intercept: float
    """Value of the code 0."""

    @property
    def values(self) -> NDArray[np.float32]:
        """(z, y, x) in the units of the scan or the map."""
        return self.codes.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)

    def nifti(self) -> bytes:
        """The volume as a gzipped NIfTI-1 file that says nothing of where it came from."""
        z, y, x = self.frame.shape
        sx, sy, sz = self.frame.spacing
        ox, oy, oz = self.frame.origin
        header = bytearray(352)
        struct.pack_into("<i", header, 0, 348)
        struct.pack_into("<8h", header, 40, 3, x, y, z, 1, 1, 1, 1)
        struct.pack_into("<hh", header, 70, 2, 8)  # uint8
        struct.pack_into("<8f", header, 76, 1, sx, sy, sz, 0, 0, 0, 0)
        struct.pack_into("<fff", header, 108, 352, self.slope, self.intercept)
        struct.pack_into("<B", header, 123, 2)  # mm
        struct.pack_into("<hh", header, 252, 0, 1)  # no quaternion; the rows below, in the scanner's frame
        rows = (-sx, 0, 0, -ox, 0, -sy, 0, -oy, 0, 0, sz, oz)  # LPS to NIfTI's RAS
        struct.pack_into("<12f", header, 280, *rows)
        header[344:348] = b"n+1\0"
        return gzip.compress(bytes(header) + self.codes.tobytes(), 9, mtime=0)

    def base64(self) -> str:
        """`nifti` as text."""
        return base64.b64encode(self.nifti()).decode("ascii")


def shrink(scan: Volume, lungs: Mask, most_bytes: float) -> SmallVolume:
    """The scan about the lungs with the first of `SPACINGS` that fits ``most_bytes`` of base64; no finer than it is."""
    cropped = _about(scan, lungs)
    extents = [n * step for n, step in zip(cropped.frame.shape[::-1], cropped.frame.spacing, strict=True)]
    for plane, between in SPACINGS:
        last = (plane, between) == SPACINGS[-1]
        pairs = zip((plane, plane, between), cropped.frame.spacing, strict=True)
        wanted = tuple(max(size, own) for size, own in pairs)
        voxels = np.prod([max(1, int(extent / step + 1e-6)) for extent, step in zip(extents, wanted, strict=True)])
        if voxels * _BYTES_PER_VOXEL * 4 / 3 > most_bytes and not last:
            continue
        small = _averaged(cropped, wanted)
        if len(small.nifti()) * 4 / 3 <= most_bytes or last:
            return small
    raise AssertionError("the last spacing is always taken")


def map_on(path: Path, small: SmallVolume, neutral: float, ends: tuple[float, float]) -> SmallVolume:
    """A map file (0 where it says nothing) on the grid of ``small``: code 0 for nothing, 1 to 255 from end to end.

    Raises:
        UserError: a file that is not a volume.
    """
    try:
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    except RuntimeError as error:
        raise UserError(f"The map {path} cannot be read; run the command that wrote it again.") from error
    frame = small.frame
    grid = sitk.Image([int(n) for n in frame.shape[::-1]], sitk.sitkFloat32)
    grid.SetSpacing(frame.spacing)
    grid.SetOrigin(frame.origin)
    moved = sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0)
    values = sitk.GetArrayFromImage(moved)
    low, high = ends
    slope = (high - low) / 254
    codes = np.clip(np.rint((values - low) / slope), 0, 254).astype(np.uint8) + np.uint8(1)
    codes[(values == 0) | ~np.isfinite(values)] = 0
    return SmallVolume(codes, frame, slope, low - slope)


def _about(scan: Volume, lungs: Mask) -> Volume:
    """The scan cut to a box about the lungs."""
    box = lungs.box_lps()
    if box is None:
        return scan
    index = scan.frame.to_index([box[0] - _MARGIN, box[1] + _MARGIN])
    size = np.asarray(scan.frame.shape[::-1])
    start = np.clip(np.floor(index.min(axis=0)).astype(int), 0, size - 1)
    stop = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1, start + 1, size)
    (x0, y0, z0), (x1, y1, z1) = start, stop
    array = scan.array[z0:z1, y0:y1, x0:x1]
    return Volume(array, scan.frame.crop((int(z0), int(y0), int(x0)), array.shape))


def _averaged(volume: Volume, spacing: tuple[float, ...]) -> SmallVolume:
    """Means over boxes of the wanted size (x, y, z mm), voxels weighted by their share; a last part box is cut."""
    values = volume.array.astype(np.float32)
    sizes = []
    for axis, (wanted, own) in enumerate(zip(spacing[::-1], volume.frame.spacing[::-1], strict=True)):
        size = min(wanted, own * values.shape[axis])
        sizes.append(size)
        if not np.isclose(size, own):
            values = np.moveaxis(np.tensordot(_shares(values.shape[axis], size / own), values, (1, axis)), 0, axis)
    low, high = HU_RANGE
    slope = (high - low) / 255
    codes = np.clip(np.rint((values - low) / slope), 0, 255).astype(np.uint8)
    sx, sy, sz = (float(size) for size in sizes[::-1])
    first = volume.frame.to_lps(
        [(size / own - 1) / 2 for size, own in zip((sx, sy, sz), volume.frame.spacing, strict=True)]
    )
    z, y, x = codes.shape
    frame = Frame((z, y, x), (sx, sy, sz), (float(first[0]), float(first[1]), float(first[2])))
    return SmallVolume(np.ascontiguousarray(codes), frame, slope, low)


def _shares(count: int, factor: float) -> NDArray[np.float32]:
    """(boxes, count) share of each voxel in each box of ``factor`` voxels; every row sums to 1."""
    starts = factor * np.arange(max(1, int(count / factor + 1e-6)))[:, None]
    voxels = np.arange(count)[None, :]
    covered = np.minimum(starts + factor, voxels + 1) - np.maximum(starts, voxels)
    return np.asarray(np.clip(covered, 0, None) / factor, dtype=np.float32)
