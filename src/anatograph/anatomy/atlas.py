"""An atlas: one pair of lungs, and the landmarks at which all subjects are compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from anatograph.anatomy.landmarks import corner_centres, find_landmarks, location_codes
from anatograph.anatomy.markups import write_markups
from anatograph.errors import UserError, plain
from anatograph.imaging.formats.read import read_file_header
from anatograph.imaging.native import native_name
from anatograph.imaging.volume import Frame, Mask, vector
from anatograph.limits import read_json

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Atlas:
    """Landmarks in the space of the atlas's lungs."""

    landmarks: NDArray[np.float64]
    """(N, 3) centres of the landmarks' patches, LPS mm of the atlas."""
    location_codes: NDArray[np.float32]
    """(N, 3) in [0, 1], p_j of the paper: where in the lungs a landmark lies (to the left, to the front, upwards)."""
    lungs: Mask
    """The mask that the landmarks were placed in, and with which subjects are registered."""
    patch_size: int = 32
    """Edge of a landmark's cube in mm (voxels of 1 mm)."""
    step: int = 26
    """Distance between neighbouring grid places in mm."""
    min_coverage: float = 0.1
    """A grid place is a landmark where more than this fraction of its patch is lung."""

    @property
    def hash(self) -> str:
        """SHA-256, in hex, over landmarks (to 1e-4 mm), location codes (to 1e-6), patch size and step."""
        digest = hashlib.sha256(f"anatograph atlas {FORMAT_VERSION} {self.patch_size} {self.step}\n".encode())
        digest.update(np.rint(self.landmarks * 1e4).astype("<i8").tobytes())
        digest.update(np.rint(self.location_codes.astype(np.float64) * 1e6).astype("<i8").tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.landmarks)

    def __post_init__(self) -> None:
        if self.landmarks.ndim != 2 or self.landmarks.shape[1] != 3:
            raise ValueError(f"landmarks must be (N, 3), not {self.landmarks.shape}")
        if self.location_codes.shape != self.landmarks.shape:
            raise ValueError(
                f"{self.landmarks.shape} landmarks need the same number of codes, not {self.location_codes.shape}"
            )


def build_atlas(lungs: Mask, patch_size: int = 32, step: int = 26, min_coverage: float = 0.1) -> Atlas:
    """Landmarks wherever a patch of a regular grid over ``lungs`` holds enough lung (section 3.1 of the paper).

    Patch corners are multiples of ``step`` mm from the mask's right, posterior, inferior corner voxel, on a 1 mm grid
    (nearest voxel where the mask is coarser or finer). Order: by the grid's x, then y, then z.

    Raises:
        UserError: impossible settings, or no landmark found.
    """
    _check_settings(patch_size, step, min_coverage)
    grid = find_landmarks(lungs, patch_size, step, min_coverage)
    return Atlas(grid.centres(patch_size), location_codes(grid.corners), lungs, patch_size, step, min_coverage)


def atlas_from_corners(
    lungs_file: str | Path,
    corners: str | Path | ArrayLike,
    patch_size: int = 32,
    step: int = 26,
    min_coverage: float = 0.1,
) -> Atlas:
    """An atlas from a list of patch corners as the published code writes it.

    Args:
        lungs_file: the mask the corners were found on, 1 mm voxels.
        corners: (N, 3) lowest voxel x, y, z of each patch, or an ``.npy`` file of it, in the voxel axes of
            ``lungs_file`` as it is stored.
        patch_size: edge of a patch in voxels.
        step: distance of the grid places in voxels, recorded only.
        min_coverage: recorded only.

    Raises:
        UserError: a file that cannot be read, corners that are not (N, 3) whole numbers, or voxels not of 1 mm.
    """
    from anatograph.imaging.reading import read_mask

    _check_settings(patch_size, step, min_coverage)
    if isinstance(corners, str | Path):
        try:
            corners = np.load(corners, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(f"{corners}: not a readable .npy file of patch corners ({error})") from error
    table = np.asarray(corners)
    if table.ndim != 2 or table.shape[1] != 3 or not len(table) or not np.array_equal(table, np.rint(table)):
        raise UserError(f"patch corners must be (N, 3) whole voxel numbers; this list has shape {table.shape}")
    lungs = read_mask(lungs_file)
    reader = sitk.ImageFileReader()
    reader.SetFileName(native_name(Path(lungs_file)))
    reader.ReadImageInformation()
    spacing = np.array(reader.GetSpacing())
    if np.abs(spacing - 1).max() > 1e-3:
        raise UserError(f"{lungs_file}: patch corners count voxels of 1 mm, but these are {spacing.round(4).tolist()}")
    x, y, z = reader.GetSize()
    stored = Frame((z, y, x), reader.GetSpacing(), reader.GetOrigin(), np.array(reader.GetDirection()).reshape(3, 3))
    whole = np.rint(table).astype(np.int64)
    landmarks = stored.to_lps(corner_centres(whole, patch_size))
    return Atlas(landmarks, location_codes(whole), lungs, patch_size, step, min_coverage)


def build_atlas_from_path(
    image_or_mask: str | Path,
    lungs: str | Path | None = None,
    patch_size: int = 32,
    step: int = 26,
    min_coverage: float = 0.1,
) -> tuple[Atlas, tuple[str, ...]]:
    """An atlas from a file: a lung mask, or a CT whose lungs are then segmented. Returns it with notes for the user.

    A file with at most eight distinct non-negative integer values is taken as a mask. With ``lungs``, that mask is
    used and the image is only checked to cover the same space.

    Raises:
        UserError: a file that cannot be read, segmented or used.
    """
    from anatograph.imaging.reading import read_mask, read_volume

    _check_settings(patch_size, step, min_coverage)
    notes: tuple[str, ...] = ()
    if lungs is not None:
        mask = read_mask(lungs, read_volume(image_or_mask))
    elif _is_mask(Path(image_or_mask)):
        mask = read_mask(image_or_mask)
    else:
        from anatograph.imaging.lungs import segment_lungs

        found = segment_lungs(read_volume(image_or_mask))
        mask = found.mask
        notes = (f"lungs segmented with {found.method}", *found.notes)
    return build_atlas(mask, patch_size, step, min_coverage), notes


def save_atlas(atlas: Atlas, folder: str | Path) -> Path:
    """Write ``atlas.json``, ``lungs.nii.gz`` and ``landmarks.mrk.json`` into ``folder`` and return it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    frame = atlas.lungs.frame
    content = {
        "format_version": FORMAT_VERSION,
        "patch_size": atlas.patch_size,
        "step": atlas.step,
        "min_coverage": atlas.min_coverage,
        "hash": atlas.hash,
        "frame": {
            "shape": list(frame.shape),
            "spacing": [float(value) for value in frame.spacing],
            "origin": [float(value) for value in frame.origin],
            "direction": frame.direction.tolist(),
        },
        "landmarks": atlas.landmarks.tolist(),
        "location_codes": atlas.location_codes.tolist(),
    }
    sitk.WriteImage(
        frame.to_image(atlas.lungs.array), native_name(folder / "lungs.nii.gz"), useCompression=True, compressionLevel=9
    )
    write_markups(folder / "landmarks.mrk.json", atlas.landmarks)
    (folder / "atlas.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    return folder


def load_atlas(folder: str | Path) -> Atlas:
    """Read what `save_atlas` wrote.

    Raises:
        UserError: no atlas there, a newer format, or a file changed since it was written.
    """
    folder = Path(folder)
    try:
        content: dict[str, Any] = read_json(folder / "atlas.json")
        if int(content["format_version"]) > FORMAT_VERSION:
            raise UserError(
                f"{folder}: this atlas is of format {content['format_version']}; install a newer anatograph"
            )
        kept = content["frame"]
        shape = tuple(int(n) for n in kept["shape"])
        # The header is checked against the JSON before anything is allocated.
        if read_file_header(folder / "lungs.nii.gz").size != shape[::-1]:
            raise ValueError("lungs.nii.gz is not the mask that atlas.json describes")
        image = sitk.ReadImage(native_name(folder / "lungs.nii.gz"), sitk.sitkUInt8)
        # The original frame, not as NIfTI rounds it: a stored atlas registers bit for bit like the one in memory.
        frame = Frame(
            (shape[0], shape[1], shape[2]), vector(kept["spacing"]), vector(kept["origin"]), _matrix(kept["direction"])
        )
        _check_settings(int(content["patch_size"]), int(content["step"]), float(content["min_coverage"]))
        atlas = Atlas(
            _points(content["landmarks"]),
            _points(content["location_codes"]).astype(np.float32),
            Mask(sitk.GetArrayFromImage(image), frame),
            int(content["patch_size"]),
            int(content["step"]),
            float(content["min_coverage"]),
        )
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: no atlas here (atlas.json is missing); create one with `anatograph atlas`"
        ) from error
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError, OverflowError, OSError) as error:
        reason = plain(str(error))[:200]
        raise UserError(
            f"{folder}: not a readable atlas ({reason}); create it again with `anatograph atlas`"
        ) from error
    if atlas.hash != content.get("hash"):
        raise UserError(
            f"{folder}: atlas.json was changed after it was written; create it again with `anatograph atlas`"
        )
    return atlas


@lru_cache(maxsize=1)
def default_atlas() -> Atlas:
    """The atlas that ships with the package: the lungs of the average phantom adult, patches of 32 mm every 26 mm."""
    with resources.as_file(resources.files("anatograph.anatomy") / "default_atlas") as folder:
        return load_atlas(folder)


def _points(values: Any) -> NDArray[np.float64]:
    """(N, 3) finite numbers from JSON."""
    points = np.array(values, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not (np.abs(points) < 1e6).all():
        raise ValueError("its points are not a list of three finite numbers each")
    return points


def _matrix(values: Any) -> NDArray[np.float64]:
    matrix = np.array(values, dtype=np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-3:
        raise ValueError("its direction is not a rotation")
    return matrix


def _check_settings(patch_size: int, step: int, min_coverage: float) -> None:
    if not 4 <= patch_size <= 128:
        raise UserError(f"patch size must be from 4 to 128 mm, not {patch_size}")
    if not 1 <= step <= 256:
        raise UserError(f"step must be from 1 to 256 mm, not {step}")
    if not 0 <= min_coverage < 1:
        raise UserError(f"coverage must be a fraction from 0 to below 1, not {min_coverage}")


def _is_mask(path: Path) -> bool:
    """Whether a file holds a few non-negative integer labels; a folder or unreadable file is left to `read_volume`."""
    if not path.is_file():
        return False
    try:
        values = sitk.GetArrayFromImage(sitk.ReadImage(native_name(path)))
    except RuntimeError:
        return False
    labels: set[float] = set()
    for plane in values:
        labels.update(np.unique(plane).tolist())
        if len(labels) > 8 or min(labels) < 0:
            return False
    return all(float(label).is_integer() for label in labels)
