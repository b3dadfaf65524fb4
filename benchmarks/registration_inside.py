"""Why the deformable map does not place the inside of phantoms better: boundary, extension, or what no outline shows.

    OMP_NUM_THREADS=1 python benchmarks/registration_inside.py [--phantoms 6] [--seed 11] [--pairs DATA]

Phantoms have two truths (see ``registration.py``): *fixed*, equal thorax coordinates, where fissures and hila are
drawn while chest wall and diaphragm move past them; and *relative*, the same part of the way between wall, dome and
apex. For both the mean error of the atlas's inner landmarks is printed, with the Dice of the mapped atlas, of

* the maps that are in use,
* the same displacement of the outline carried inwards in another way: harmonically, or fading with depth,
* bounds: the true posture, the true surface, and a fit that is also given where fissures and hila truly lie.

DATA is the folder of breathing pairs of ``registration.py``, where real landmarks judge the ways inwards.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from registration import relative
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.linalg import cg

from anatograph.anatomy.atlas import build_atlas, default_atlas
from anatograph.anatomy.registration import AffineMap, AtlasMap, DeformableMap, deformable, register
from anatograph.anatomy.registration.quality import overlap
from anatograph.anatomy.registration.shape import Shape
from anatograph.anatomy.registration.velocity import VelocityLattice
from anatograph.imaging.reading import read_mask
from anatograph.phantoms.raster.grid import rotation_matrix
from anatograph.phantoms.settings import PhantomSettings
from anatograph.phantoms.subject import make_subject
from anatograph.phantoms.thorax.lobes import horizontal, oblique
from anatograph.phantoms.thorax.lungtrees import _ARTERY, _BRONCHUS, _VEIN
from anatograph.phantoms.thorax.shape import Thorax

Array = NDArray[np.float64]
Points = Callable[[Array], Array]
HILA = np.concatenate([_BRONCHUS, _ARTERY, _VEIN])
"""Where the trees of the lobes begin, thorax coordinates."""
STEP = 6.0
"""mm between the nodes of the harmonic extension."""


def harmonic(shape: Shape, surface: Points) -> Points:
    """Displacements inside the lungs that are harmonic and continue those of ``surface`` outside them."""
    low = shape.box[0] - 2 * STEP
    counts = np.ceil((shape.box[1] + 2 * STEP - low) / STEP).astype(int) + 1
    z, y, x = np.meshgrid(*(np.arange(n) * STEP for n in counts[::-1]), indexing="ij")
    nodes = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1) + low
    inside = (shape.field(2.5).sample(shape.to_own(nodes))[0] > 0.5).reshape(x.shape)
    values = np.zeros((*inside.shape, 3))
    values[~inside] = surface(nodes[~inside.ravel()])
    number = np.full(inside.shape, -1)
    number[inside] = own = np.arange(int(inside.sum()))
    rows, columns, known = [own], [own], np.zeros((len(own), 3))
    for axis in range(3):
        for step in (1, -1):
            other = np.roll(number, step, axis)[inside]
            rows.append(own[other >= 0])
            columns.append(other[other >= 0])
            known[other < 0] += np.roll(values, step, axis)[inside][other < 0]
    row, column = np.concatenate(rows), np.concatenate(columns)
    laplacian = coo_array((np.where(row == column, 6.0, -1.0), (row, column))).tocsr()
    for axis in range(3):
        values[..., axis][inside] = cg(laplacian, known[:, axis], rtol=1e-6, maxiter=500)[0]
    return lambda points: np.stack(
        [
            ndimage.map_coordinates(part, ((points - low) / STEP).T[::-1], order=1)
            for part in np.moveaxis(values, -1, 0)
        ],
        axis=1,
    )


def depth_of(shape: Shape, points: Array) -> Array:
    """(N,) mm from the lungs' surface."""
    fine = shape.field(1.5)
    depth = ndimage.distance_transform_edt(fine.values > 0.5) * fine.spacing[0]
    return ndimage.map_coordinates(depth, ((shape.to_own(points) - fine.start) / fine.spacing).T[::-1], order=1)


def fissures(atlas: Shape) -> list[tuple[Callable[..., Array], Array]]:
    """The oblique and the horizontal fissure as distance functions, with about 600 and 200 points on them."""
    found = []
    places = atlas.to_lps(atlas.field(2.5).inside(3))
    for distance in (oblique, horizontal):
        near = np.abs(distance(*places.T)) < 2
        if distance is horizontal:
            near &= (places[:, 0] < 4) & (oblique(*places.T) > 0)
        points = places[near]
        for _ in range(4):
            slope = _slope(distance, points)
            points = points - (distance(*points.T) / np.maximum((slope**2).sum(axis=1), 0.1))[:, None] * slope
        found.append((distance, points[:: max(1, len(points) // 800)]))
    return found


def _slope(distance: Callable[..., Array], points: Array) -> Array:
    return np.stack([distance(*(points + h).T) - distance(*(points - h).T) for h in np.eye(3)], axis=1) / 2


class InformedFit(deformable._Fit):
    """The fit, given what it cannot know: where structures of thorax coordinates lie in the subject."""

    posture: AffineMap
    surfaces: list[tuple[Callable[..., Array], Array]]
    points: Array
    weight: float

    def linearised(self, lattice: VelocityLattice, velocity: Array) -> deformable._Linearised:
        """As `deformable._Fit`, with residuals of points and of distances from surfaces added."""
        state = super().linearised(lattice, velocity)
        matrix = np.linalg.inv(self.posture.matrix) @ self.affine.matrix
        parts: list[tuple[Array, Array, list[Array]]] = []
        for distance, places in [*self.surfaces, (None, self.points)]:
            moved, trace = lattice.flow(velocity, places, self.steps)
            here = self.posture.to_atlas(self.affine.to_subject(moved))
            if distance is not None:
                parts.append((distance(*here.T), _slope(distance, here) @ matrix, trace))
            else:
                parts += [((here - places)[:, k], np.broadcast_to(matrix[k], here.shape), trace) for k in range(3)]
        residual = np.concatenate([state.residual, *(part[0] for part in parts)])
        slope = np.concatenate([state.slope, *(part[1] for part in parts)])
        weights = [np.full(len(part[0]), self.weight / max(len(part[0]), 1)) for part in parts]
        weight = np.concatenate([state.weight, *weights])
        path = [np.concatenate([state.path[k], *(part[2][k] for part in parts)]) for k in range(self.steps)]
        sign = np.concatenate([state.sign, np.ones(len(residual) - len(state.residual))])
        return deformable._Linearised(float(weight @ residual**2), residual, slope, weight, path, sign)


def informed(atlas: Shape, subject: Shape, affine: AffineMap, **given: object) -> DeformableMap:
    """The deformable map of a fit that is given more; see `InformedFit`."""
    with mock.patch.object(deformable, "_Fit", type("Given", (InformedFit,), given)):
        return deformable.fit_deformable(atlas, subject, affine)


def inwards(atlas: Shape, map_: DeformableMap, points: Array) -> dict[str, Array]:
    """``points`` mapped by a deformable map's outline, carried inwards in other ways than its own."""
    affine = map_.affine

    def shift(places: Array) -> Array:
        return affine.to_atlas(map_.to_subject(places)) - places

    fading = {f"fading {length:.0f} mm": shift(points) * np.exp(-depth_of(atlas, points) / length)[:, None]
              for length in (10.0, 20.0)}  # fmt: skip
    ways = {"harmonic": harmonic(atlas, shift)(points), **fading}
    return {name: affine.to_subject(points + moved) for name, moved in ways.items()}


def phantom(seed: int, index: int, note: Callable[..., None]) -> None:
    """All rows of one phantom."""
    atlas = default_atlas()
    shape = Shape(atlas.lungs)
    inner = atlas.landmarks[atlas.lungs.contains(atlas.landmarks)]
    subject = make_subject(seed, index, PhantomSettings(spacing_mm=2.0))
    matrix = rotation_matrix(subject.profile.rotation_deg) * np.asarray(subject.profile.scale)
    posture = AffineMap(matrix, np.asarray(subject.profile.shift_mm))
    thorax, there = Thorax(subject.profile.shape), Shape(subject.lungs)
    goals = {"fixed": posture.to_subject(inner), "relative": posture.to_subject(relative(thorax, inner))}

    def add(name: str, places: Array, map_: AtlasMap | None = None) -> None:
        for truth, goal in goals.items():
            note(name, truth, np.linalg.norm(places - goal, axis=1).mean())
        if map_ is not None:
            note(name, "dice", overlap(shape, there, map_))

    affine = register(atlas, subject.lungs, "affine").map
    assert isinstance(affine, AffineMap)
    own = deformable.fit_deformable(shape, there, affine)
    add("affine", affine.to_subject(inner), affine)
    add("deformable", own.to_subject(inner), own)
    for name, places in inwards(shape, own, inner).items():
        add(f"deformable, {name}", places)
    add("true posture", posture.to_subject(inner), posture)
    known = deformable.fit_deformable(shape, there, posture)
    add("true posture, then the outline", known.to_subject(inner), known)
    for name, places in inwards(shape, known, inner).items():
        add(f"true posture, then the outline, {name}", places)
    true = harmonic(shape, lambda places: relative(thorax, places) - places)
    add("true surface (relative), harmonic", posture.to_subject(inner + true(inner)))
    nothing: dict[str, object] = {"surfaces": [], "points": np.zeros((0, 3)), "posture": posture, "weight": 1.0}
    for name, given in (
        ("given the hila", {"points": HILA}),
        ("given the fissures", {"surfaces": fissures(shape)}),
        ("given hila and fissures", {"points": HILA, "surfaces": fissures(shape)}),
    ):
        map_ = informed(shape, there, affine, **{**nothing, **given})
        add(f"deformable, {name}", map_.to_subject(inner), map_)
    grid = shape.field(2.5)
    rim = shape.to_lps(grid.points()[np.flatnonzero(np.abs(grid.values.ravel() - 0.5) < 0.12)[::20]])
    mapped = own.to_subject(rim)
    slope = there.field(2.5).sample(there.to_own(mapped))[1] @ there.direction.T
    normal = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)
    error = mapped - posture.to_subject(relative(thorax, rim))
    across = (error * normal).sum(axis=1)
    note("deformable, surface, across it", "relative", np.abs(across).mean())
    note("deformable, surface, along it", "relative", np.linalg.norm(error - across[:, None] * normal, axis=1).mean())


def pair(data: Path, case: str, note: Callable[..., None]) -> None:
    """All rows of one breathing pair."""
    atlas = build_atlas(read_mask(data / f"{case}_exp_lungs.nii.gz"))
    found = register(atlas, read_mask(data / f"{case}_insp_lungs.nii.gz")).map
    assert isinstance(found, DeformableMap)
    points, goals = (np.loadtxt(data / f"{case}_{breath}_landmarks_lps_mm.csv", delimiter=",", skiprows=1)
                     for breath in ("exp", "insp"))  # fmt: skip
    rows = {"affine": found.affine.to_subject(points), "deformable": found.to_subject(points)}
    rows |= {f"deformable, {name}": places for name, places in inwards(Shape(atlas.lungs), found, points).items()}
    for name, places in rows.items():
        note(name, f"pair {case}", np.linalg.norm(places - goals, axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=6)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--pairs", type=Path, help="folder of the breathing pairs")
    options = parser.parse_args()
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def note(name: str, column: str, value: float) -> None:
        rows[name][column].append(float(value))

    for index in range(options.phantoms):
        phantom(options.seed, index, note)
        print(f"phantom {index}", flush=True)
    for path in sorted(options.pairs.glob("*_exp_lungs.nii.gz")) if options.pairs else ():
        pair(options.pairs, path.name.removesuffix("_exp_lungs.nii.gz"), note)
        print(path.name, flush=True)
    columns = dict.fromkeys(column for found in rows.values() for column in found)
    print(f"\n| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, found in rows.items():
        shown = (
            f"{np.mean(found[column]):.{3 if column == 'dice' else 2}f}" if column in found else ""
            for column in columns
        )
        print(f"| {name} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
