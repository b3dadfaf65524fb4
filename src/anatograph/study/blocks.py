"""Single rows out of an array on disk, such as the patches of a subject, reading nothing else."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anatograph.errors import UserError

INSIDE = "inside.npy"
"""The file in a subject's folder that says which voxels of its patches are lung, eight to a byte: (N, P³ / 8) uint8."""


def layout(shape: tuple[int, ...], dtype: str) -> tuple[int, int]:
    """Offset of the first row of an array in its ``.npy`` file and length of the file, as numpy writes it."""
    header = BytesIO()
    about = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)  # type: ignore[no-untyped-call]
    start = len(header.getvalue())
    return start, start + math.prod(shape) * np.dtype(dtype).itemsize


def read_rows(file: Path, rows: Sequence[int], targets: Sequence[NDArray[Any]], count: int) -> None:
    """Fill each of ``targets`` (contiguous, alike) with a row of the array in ``file``, opening it once.

    Raises:
        UserError: a file that cannot be read, or is not of ``count`` rows like the targets.
    """
    again = f"remove the folder {file.parent} and preprocess this subject again"
    if not targets:
        return
    start, end = layout((count, *targets[0].shape), targets[0].dtype.newbyteorder("<").str)
    length = targets[0].nbytes
    try:
        with file.open("rb", buffering=0) as handle:
            if os.fstat(handle.fileno()).st_size != end:
                raise UserError(f"{file} is damaged or belongs to another atlas; {again}.")
            if hasattr(os, "posix_fadvise"):  # no reading ahead
                os.posix_fadvise(handle.fileno(), 0, end, os.POSIX_FADV_RANDOM)
            for row, target in zip(rows, targets, strict=True):
                view = target.reshape(-1).view(np.uint8).data
                handle.seek(start + row * length)
                done = 0
                while done < len(view):
                    got = handle.readinto(view[done:])
                    if not got:
                        raise UserError(f"{file} is truncated; {again}.")
                    done += got
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); {again}.") from error


def packed_length(patch_size: int) -> int:
    """Bytes for a patch."""
    return -(-(patch_size**3) // 8)


def pack(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(N, P, P, P) to (N, P³ / 8)."""
    return np.packbits(inside.reshape(len(inside), -1), axis=1)


def unpack(bits: NDArray[np.uint8], patch_size: int) -> NDArray[np.bool_]:
    """The inverse of `pack`: (N, P³ / 8) to (N, P, P, P)."""
    flat = np.unpackbits(bits, axis=1, count=patch_size**3)
    return flat.reshape(len(bits), *(patch_size,) * 3).view(np.bool_)


def by_subject(
    subject_ids: Sequence[str], landmarks: ArrayLike, count: int
) -> Iterator[tuple[str, list[int], list[int]]]:
    """Each subject once, with those of its ``count`` landmarks that are wanted and their places in the answer.

    ``landmarks`` (B,) belong to the B ``subject_ids``, which may repeat, or are one for all.
    """
    rows = np.broadcast_to(np.asarray(landmarks, dtype=np.int64), (len(subject_ids),))
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < count:
        raise IndexError(f"landmarks run from 0 to {count - 1}, not to {int(rows.max())}")
    places: dict[str, list[int]] = {}
    for place, subject_id in enumerate(subject_ids):
        places.setdefault(subject_id, []).append(place)
    for subject_id, own in places.items():
        yield subject_id, [int(rows[place]) for place in own], own
