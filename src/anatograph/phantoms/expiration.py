"""The expiratory scan of a synthetic subject: its inspiratory scan compressed, with the air that is trapped left in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.volume import Mask, Volume
from anatograph.phantoms.disease.extent import extent_columns
from anatograph.phantoms.raster.grid import Field, Stage
from anatograph.phantoms.raster.noise import smooth_noise
from anatograph.phantoms.scanner import scan
from anatograph.phantoms.subject import PhantomSubject

SCALE = ((0.93, 0.97), (0.84, 0.92), (0.64, 0.76))
"""Ranges of the size of the chest at expiration over that at inspiration along L, P and S."""
BENT_MM, SMOOTH_MM = 2.0, 45.0
"""Standard deviation of what is displaced beyond that along each axis, and the length over which it is smooth."""
_EMPHYSEMA, _TRAPPED, _DENSE = -950, -856, -500


def exhale(subject: PhantomSubject, rng: np.random.Generator) -> PhantomSubject:
    """The same subject after expiration, lying still.

    What is at p at expiration was at c + (p - c) / s + b(p) before: c is the middle of the top of the lungs, s (3,) is
    drawn from `SCALE`, and b is a smooth random displacement. Lung keeps its mass, HU = -1000 + (HU at inspiration +
    1000) / (s_x s_y s_z), but where air is trapped and outside the lungs HU stay as they are; holes are air anyway.

    The columns are those of inspiration but for the extents and the lung volume, and ``prm_normal``, ``prm_fsad`` and
    ``prm_emphysema`` are the true shares, without noise, of the lung voxels at expiration that are below -500 HU in
    both breaths: emphysema below -950 HU at inspiration and below -856 HU at expiration, fsad not below -950 HU and
    below -856 HU, normal neither of them.
    """
    scale = np.array([rng.uniform(*ends) for ends in SCALE])[::-1]
    before, frame = subject.noise_free, subject.volume.frame
    stage = Stage(replace(frame, origin=(0.0, 0.0, 0.0)), np.eye(3), np.zeros(3))
    bends = [Field(BENT_MM * smooth_noise(rng, stage.coarse_shape, SMOOTH_MM), stage) for _ in range(3)]
    spacing = np.array(frame.spacing[::-1])
    inside = np.argwhere(subject.lungs.lungs)
    fixed = np.array([inside[:, 0].max(), *inside[:, 1:].mean(axis=0)])
    smooth = before.astype(np.float32)
    hu, deep = np.empty(frame.shape, dtype=np.float32), np.empty(frame.shape, dtype=np.float32)
    labels = np.zeros(frame.shape, dtype=np.uint8)
    diseases = {name: np.zeros(frame.shape, dtype=np.uint8) for name in subject.diseases}
    rows, columns = np.meshgrid(np.arange(frame.shape[1]), np.arange(frame.shape[2]), indexing="ij")
    for z in range(frame.shape[0]):
        grid = np.stack([np.full(rows.shape, float(z)), rows, columns])
        bend = np.stack([field.slab(z, z + 1)[0] for field in bends]) / spacing[:, None, None]
        place = fixed[:, None, None] + (grid - fixed[:, None, None]) / scale[:, None, None] + bend
        deep[z] = ndimage.map_coordinates(smooth, place, order=1, mode="nearest")
        for target, source in ((labels, subject.lungs.array), *((diseases[n], m) for n, m in subject.diseases.items())):
            ndimage.map_coordinates(source, place, output=target[z], order=0, mode="constant")
        dense = np.minimum(-1000 + (deep[z] + 1000) / float(scale.prod()), 60.0)
        hu[z] = np.where((labels[z] > 0) & (diseases["air_trapping"][z] == 0) & (deep[z] < 60), dense, deep[z])
    profile, own = subject.profile, labels > 0
    shares = _classes(deep[own], hu[own])
    variables = subject.variables | extent_columns(diseases, labels)
    variables["lung_volume_l"] = round(float(np.count_nonzero(own) * frame.voxel_volume / 1e6), 3)
    names = ("prm_normal", "prm_fsad", "prm_emphysema")
    variables |= {name: round(float(share), 6) for name, share in zip(names, shares, strict=True)}
    return replace(
        subject,
        volume=Volume(scan(hu, profile.scanner, spacing, profile.bmi, rng), frame, frame, source="phantom"),
        lungs=Mask(labels, frame),
        diseases=diseases,
        variables=variables,
        noise_free=np.clip(np.rint(hu), -1024, 3071).astype(np.int16),
    )


def _classes(inspiration: NDArray[np.float32], expiration: NDArray[np.float32]) -> NDArray[np.float64]:
    """Shares of normal, fsad and emphysema voxels."""
    thin = (inspiration < _DENSE) & (expiration < _DENSE)
    traps, holes = expiration[thin] < _TRAPPED, inspiration[thin] < _EMPHYSEMA
    counts = np.array([np.sum(~holes & ~traps), np.sum(~holes & traps), np.sum(holes & traps)], dtype=np.float64)
    return np.asarray(counts / max(int(thin.sum()), 1), dtype=np.float64)
