"""Single patches out of ``patches.npy``, reading nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError


def layout(count: int, size: int) -> tuple[int, int]:
    """Offset of the first patch in ``patches.npy`` and length of the file, as numpy writes it."""
    header = BytesIO()
    about = {"descr": "<i2", "fortran_order": False, "shape": (count, size, size, size)}
    np.lib.format.write_array_header_1_0(header, about)  # type: ignore[no-untyped-call]
    start = len(header.getvalue())
    return start, start + count * size**3 * 2


def read_blocks(file: Path, offsets: Sequence[int], targets: Sequence[NDArray[np.int16]], whole: int) -> None:
    """Fill each of ``targets`` (contiguous) from its offset on, opening the file once; it must have ``whole`` bytes."""
    again = f"remove the folder {file.parent} and preprocess this subject again"
    try:
        with file.open("rb", buffering=0) as handle:
            if os.fstat(handle.fileno()).st_size != whole:
                raise UserError(f"{file} is damaged or belongs to another atlas; {again}.")
            if hasattr(os, "posix_fadvise"):  # no reading ahead
                os.posix_fadvise(handle.fileno(), 0, whole, os.POSIX_FADV_RANDOM)
            for offset, target in zip(offsets, targets, strict=True):
                view = target.reshape(-1).view(np.uint8).data
                handle.seek(offset)
                done = 0
                while done < len(view):
                    got = handle.readinto(view[done:])
                    if not got:
                        raise UserError(f"{file} is truncated; {again}.")
                    done += got
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); {again}.") from error
