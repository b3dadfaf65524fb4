"""Maps between the atlas and a subject, in both directions, and the ITK files that store them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from anatograph.anatomy.registration.displacement import Displacement, LinearDisplacement, SplineDisplacement
from anatograph.errors import UserError
from anatograph.execution.files import write_error

COMPRESSED_FROM = 100
"""Parameters of a transform above which they are compressed."""


class AtlasMap(ABC):
    """Where a point of the atlas lies in a subject, and back. All points are (N, 3) LPS mm, float64."""

    suffix: ClassVar[str]
    """Suffix of the file that `save` writes."""

    @abstractmethod
    def to_subject(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (N, 3) of the atlas in the subject, LPS mm."""

    @abstractmethod
    def to_atlas(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (N, 3) of the subject in the atlas, LPS mm."""

    @abstractmethod
    def save(self, path: str | Path) -> Path:
        """Write an ITK transform taking atlas points to subject points (which resamples the subject onto the atlas).

        The suffix of ``path`` is replaced by `suffix`. Returns the file written, which `load_map` reads.
        """


class AffineMap(AtlasMap):
    """y = A x + t."""

    suffix = ".tfm"

    def __init__(self, matrix: ArrayLike, translation: ArrayLike) -> None:
        self.matrix: NDArray[np.float64] = np.array(matrix, dtype=np.float64).reshape(3, 3)
        """(3, 3) A, from atlas LPS mm to subject LPS mm."""
        self.translation: NDArray[np.float64] = np.array(translation, dtype=np.float64).reshape(3)
        """(3,) t in mm."""
        self._inverse: NDArray[np.float64] = np.asarray(np.linalg.inv(self.matrix), dtype=np.float64)

    def to_subject(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (N, 3) of the atlas in the subject, LPS mm."""
        return np.asarray(_points(points) @ self.matrix.T + self.translation, dtype=np.float64)

    def to_atlas(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (N, 3) of the subject in the atlas, LPS mm."""
        return np.asarray((_points(points) - self.translation) @ self._inverse.T, dtype=np.float64)

    def inverse(self) -> AffineMap:
        """The map from the subject to the atlas."""
        return AffineMap(self._inverse, -self._inverse @ self.translation)

    def to_itk(self) -> sitk.AffineTransform:
        """The same map as an ITK transform."""
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(self.matrix.ravel().tolist())
        transform.SetTranslation(self.translation.tolist())
        return transform

    def save(self, path: str | Path) -> Path:
        """Write an ITK ``AffineTransform`` as text."""
        target = Path(path).with_suffix(self.suffix)
        _write(self.to_itk(), target)
        return target


class DeformableMap(AtlasMap):
    """A displacement in the atlas's space, then an affine map; with the inverse displacement beside it."""

    suffix = ".h5"

    def __init__(self, affine: AffineMap, forward: Displacement, inverse: Displacement) -> None:
        self.affine = affine
        """Applied second on the way to the subject."""
        self.forward = forward
        """Applied first on the way to the subject, in atlas space."""
        self.inverse = inverse
        """Applied last on the way to the atlas; inverse of ``forward`` up to the error that `quality` reports."""

    def to_subject(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (N, 3) of the atlas in the subject, LPS mm."""
        return self.affine.to_subject(self.forward(_points(points)))

    def to_atlas(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (N, 3) of the subject in the atlas, LPS mm."""
        return self.inverse(self.affine.to_atlas(points))

    def save(self, path: str | Path) -> Path:
        """Write an ITK composite transform, and its inverse beside it as ``NAME_inverse.h5``."""
        target = Path(path).with_suffix(self.suffix)
        # ITK applies the transform that was added last first.
        _write_compressed(sitk.CompositeTransform([self.affine.to_itk(), self.forward.to_itk()]), target)
        back = sitk.CompositeTransform([self.inverse.to_itk(), self.affine.inverse().to_itk()])
        _write_compressed(back, _inverse_path(target))
        return target


def load_map(path: str | Path) -> AtlasMap:
    """Read what `AtlasMap.save` wrote; the suffix may be omitted or be that of the other map type.

    Raises:
        UserError: no such file, or a transform of another type.
    """
    wanted = Path(path)
    candidates = [wanted, wanted.with_suffix(AffineMap.suffix), wanted.with_suffix(DeformableMap.suffix)]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise UserError(f"{path}: no transform found; run the registration again")
    parts = _read(found)
    if len(parts) == 1 and isinstance(parts[0], sitk.AffineTransform):
        return _affine(parts[0])
    if len(parts) == 2 and isinstance(parts[0], sitk.AffineTransform):
        fields = [_displacement(part) for part in (parts[1], _read(_inverse_path(found))[0])]
        if fields[0] is not None and fields[1] is not None:
            return DeformableMap(_affine(parts[0]), fields[0], fields[1])
    raise UserError(
        f"{found}: not a map that anatograph writes (an affine map, or one with a displacement field or a B-spline)"
    )


def _read(path: Path) -> list[sitk.Transform]:
    try:
        transform = sitk.ReadTransform(str(path)).Downcast()
    except RuntimeError as error:
        raise UserError(f"{path}: not a readable ITK transform") from error
    if isinstance(transform, sitk.CompositeTransform):
        return [transform.GetNthTransform(n).Downcast() for n in range(transform.GetNumberOfTransforms())]
    return [transform]


def _displacement(transform: sitk.Transform) -> Displacement | None:
    if isinstance(transform, sitk.BSplineTransform):
        return SplineDisplacement.from_itk(transform)
    if isinstance(transform, sitk.DisplacementFieldTransform):
        return LinearDisplacement.from_itk(transform)
    return None


def _affine(transform: sitk.AffineTransform) -> AffineMap:
    matrix = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    return AffineMap(matrix, np.array(transform.GetTranslation()) + centre - matrix @ centre)


def _write(transform: sitk.Transform, path: Path) -> None:
    """`sitk.WriteTransform`, whose error for a disk without room has no error number: it gets one."""
    try:
        sitk.WriteTransform(transform, str(path))
    except RuntimeError as error:
        raise write_error(path, "a transform could not be written") from error


def _write_compressed(transform: sitk.Transform, path: Path) -> None:
    """Write a transform as ITK does, with the parameters compressed: ITK reads such files but cannot write them."""
    import h5py

    plain = path.with_name(path.stem + "_plain" + path.suffix)
    try:
        _write(transform, plain)
        # Made in memory and written by Python: where the disk is full, h5py prints what it cannot raise.
        with h5py.File(plain, "r") as source, h5py.File(path, "w", driver="core", backing_store=False) as target:

            def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
                # Written again: a copied item would carry the time of writing, and equal maps give equal files.
                if isinstance(item, h5py.Group):
                    target.require_group(name)
                elif item.dtype.kind == "f" and item.size > COMPRESSED_FROM:
                    target.create_dataset(name, data=item[()], compression="gzip", shuffle=True)
                else:
                    target.create_dataset(name, data=item[()], dtype=item.dtype)

            source.visititems(copy)
            target.flush()
            image = target.id.get_file_image()
        path.write_bytes(image)
    finally:
        plain.unlink(missing_ok=True)


def _inverse_path(path: Path) -> Path:
    return path.with_name(path.stem + "_inverse" + path.suffix)


def _points(points: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"points must be (N, 3), not {array.shape}")
    return array
