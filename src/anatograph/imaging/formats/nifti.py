"""NIfTI headers, and where their voxels lie.

ITK takes the distance between voxels from ``pixdim`` and the rest from the sform; the standard, and every other reader,
take all of it from the sform. The frame is therefore computed here: from the sform where its code says that it is
valid, else from the qform.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.formats.header import FileHeader, damaged, plain_text, scale_to_mm
from anatograph.imaging.formats.unpacking import beginning
from anatograph.imaging.volume import Frame, vector
from anatograph.limits import MAX_HEADER_BYTES

_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 32: 8, 64: 8, 128: 3, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8, 1536: 16,
          1792: 16, 2048: 32, 2304: 4}  # fmt: skip
_UNITS = {1: ("m", 1000.0), 2: ("mm", 1.0), 3: ("um", 0.001)}
"""Unit of ``xyzt_units``, and mm in it; others are not stated."""
_ROUNDING = 1e-3
"""Relative difference between two statements of one distance that is rounding."""
_APART = 1.0
"""mm between the places of a voxel by sform and qform that matter."""
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class _Fields:
    """The fields of a NIfTI-1 or NIfTI-2 header."""

    order: str
    length: int
    dimensions: tuple[int, ...]
    kind: int
    pixdim: tuple[float, ...]
    offset: float
    units: int
    codes: tuple[int, int]
    quaternion: tuple[float, ...]
    """b, c, d and the offsets x, y, z."""
    srow: tuple[float, ...]
    texts: dict[str, bytes]


def read_nifti(path: Path) -> FileHeader:
    """The header of a NIfTI file of either version, packed or not, with its frame in LPS mm.

    Raises UserError where the file does not say where left is, or says it twice and differently.
    """
    head = beginning(path, 544)
    fields = _fields(path, head)
    count = fields.dimensions[0]
    if not 1 <= count <= 7 or min(fields.dimensions[1 : count + 1]) < 1:
        raise damaged(path, f"impossible dimensions {list(fields.dimensions)}")
    if fields.kind not in _BYTES:
        raise damaged(path, f"unknown type {fields.kind} of voxels")
    if not fields.length + 4 <= fields.offset <= MAX_HEADER_BYTES or not math.isfinite(fields.offset):
        raise damaged(path, f"voxels at byte {fields.offset:g}")
    texts = {name: plain_text(data) for name, data in fields.texts.items()}
    if fields.offset > fields.length + 4:
        texts |= _extensions(beginning(path, int(fields.offset)), fields.order, fields.length)
    size = fields.dimensions[1 : count + 1]
    width = _BYTES[fields.kind]
    frame, flags = _frame(path, fields, size) if count >= 3 else (None, ())
    return FileHeader(
        size,
        width,
        frame,
        flags=flags,
        texts={key: text for key, text in texts.items() if text},
        needed=int(fields.offset) + math.prod(size) * width,
        floats=(int(fields.offset), f"{fields.order}f{width}") if fields.kind in (16, 64) else None,
    )


def _fields(path: Path, head: bytes) -> _Fields:
    for order in "<>":
        if len(head) >= 348 and struct.unpack(f"{order}i", head[:4])[0] == 348:
            if head[344:348] == b"ni1\0":
                raise UserError(f"{path}: a header whose voxels lie in another file (.img); save the scan as one file.")
            if head[344:348] != b"n+1\0":
                raise damaged(path, "no NIfTI header; an Analyze file does not say where left is")

            def read(form: str, at: int, order: str = order) -> tuple[float, ...]:
                return struct.unpack_from(order + form, head, at)

            return _Fields(
                order, 348, tuple(int(n) for n in read("8h", 40)), int(read("h", 70)[0]), read("8f", 76),
                read("f", 108)[0], head[123] & 7, (int(read("h", 252)[0]), int(read("h", 254)[0])), read("6f", 256),
                read("12f", 280), {"data_type": head[4:14], "db_name": head[14:32], "descrip": head[148:228],
                                   "aux_file": head[228:252], "intent_name": head[328:344]},
            )  # fmt: skip
        if len(head) >= 540 and struct.unpack(f"{order}i", head[:4])[0] == 540:
            if head[4:8] != b"n+2\0":
                raise damaged(path, "no NIfTI header")

            def read2(form: str, at: int, order: str = order) -> tuple[float, ...]:
                return struct.unpack_from(order + form, head, at)

            return _Fields(
                order, 540, tuple(int(n) for n in read2("8q", 16)), int(read2("h", 12)[0]), read2("8d", 104),
                float(read2("q", 168)[0]), int(read2("i", 500)[0]) & 7,
                (int(read2("i", 344)[0]), int(read2("i", 348)[0])), read2("6d", 352), read2("12d", 400),
                {"descrip": head[240:320], "aux_file": head[320:344], "intent_name": head[508:524]},
            )  # fmt: skip
    raise damaged(path, "empty" if not head else "no NIfTI header")


def _frame(path: Path, fields: _Fields, size: tuple[int, ...]) -> tuple[Frame, tuple[str, ...]]:
    """The grid in LPS mm, and what is odd about it."""
    qcode, scode = fields.codes
    if qcode <= 0 and scode <= 0:
        raise UserError(
            f"{path}: the file does not say how the voxels lie in the patient (qform and sform codes are 0), so left "
            "and right are unknown; convert the scan again from its DICOM files, or set the code if it is known."
        )
    flags: list[str] = []
    shape = np.array(size[:3])
    steps = np.abs(np.array(fields.pixdim[1:4]))
    qform = _qform(fields) if qcode > 0 else None
    if scode > 0:
        affine = np.vstack([np.array(fields.srow).reshape(3, 4), [0, 0, 0, 1]])
        _check_affine(path, affine, fields.srow)
        flags += _check_steps(affine, np.array(fields.pixdim[1:4]))
        if qform is not None:
            flags += _check_qform(path, affine, qform, shape, _UNITS.get(fields.units, ("", 1.0))[1])
    elif qform is None or not np.isfinite(qform).all() or not min(fields.pixdim[1:4]) > 0:
        raise UserError(
            f"{path}: the distance between voxels (pixdim) is {', '.join(f'{s:g}' for s in fields.pixdim[1:4])}, which "
            "is not possible, and no sform gives another; convert the scan again from its DICOM files."
        )
    else:
        affine = qform
    lps = _RAS_TO_LPS @ affine
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    scale = scale_to_mm(path, _UNITS.get(fields.units, ("", 1.0)), lengths)
    # pixdim has the digits that the sform's columns lose to single precision.
    spacing = np.where(np.abs(steps - lengths) <= 1e-5 * lengths, steps, lengths)
    x, y, z = (int(n) for n in shape)
    return Frame((z, y, x), vector(spacing * scale), vector(lps[:3, 3] * scale + 0.0), lps[:3, :3] / lengths), tuple(
        flags
    )


def _qform(fields: _Fields) -> NDArray[np.float64]:
    """The affine (4, 4), index to RAS in the file's unit, of the quaternion; nan where that is none."""
    b, c, d, *offset = fields.quaternion
    rest = 1.0 - (b * b + c * c + d * d)
    a = math.sqrt(max(rest, 0.0)) if rest > -1e-5 else math.nan
    rotation = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
    ])  # fmt: skip
    steps = np.abs(np.array(fields.pixdim[1:4]))
    handed = -1.0 if fields.pixdim[0] < 0 else 1.0  # "qfac"
    affine = np.eye(4)
    with np.errstate(invalid="ignore"):
        affine[:3, :3] = rotation * (steps * [1.0, 1.0, handed])
    affine[:3, 3] = offset
    return affine


def _check_affine(path: Path, affine: NDArray[np.float64], srow: tuple[float, ...]) -> None:
    rows = [[float(f"{value:.6g}") for value in srow[k : k + 3]] for k in (0, 4, 8)]
    matrix = affine[:3, :3]
    lengths = np.linalg.norm(matrix, axis=0) if np.isfinite(affine).all() else np.zeros(3)
    if lengths.min() == 0 or abs(np.linalg.det(matrix / lengths)) < 1e-3:
        raise UserError(f"{path}: the affine {rows} in the header is degenerate; convert the scan again.")
    if np.abs((matrix / lengths).T @ (matrix / lengths) - np.eye(3)).max() > 1e-2:
        raise UserError(
            f"{path}: the axes are not at right angles (affine {rows}), as after an uncorrected gantry tilt; "
            "resample the scan onto a rectangular grid first."
        )


def _check_steps(affine: NDArray[np.float64], pixdim: NDArray[np.float64]) -> list[str]:
    """What ``pixdim`` says otherwise than the sform, which is used."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    with np.errstate(invalid="ignore"):
        agree = np.abs(pixdim - lengths) <= _ROUNDING * lengths
    if agree.all():
        return []
    said, used = (" × ".join(f"{value:.6g}" for value in values) for values in (pixdim, lengths))
    return [f"the header gives two voxel sizes, {said} (pixdim) and {used} (sform); the sform was used, check it"]


def _check_qform(
    path: Path, sform: NDArray[np.float64], qform: NDArray[np.float64], size: NDArray[np.int64], scale: float
) -> list[str]:
    """Refuse an sform and a qform that mirror each other; otherwise, what they disagree about."""
    if not np.isfinite(qform).all() or abs(np.linalg.det(qform[:3, :3])) == 0:
        return []  # a voxel size of 0 in pixdim has been reported
    turn = _unit_columns(sform).T @ _unit_columns(qform)
    if np.linalg.det(turn) < 0:
        raise UserError(
            f"{path}: its sform and qform are mirror images of each other, so left and right are uncertain; convert "
            "the scan again from its DICOM files, or set the code of the wrong one to 0."
        )
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*(size - 1), 1]
    # Differences of voxel size are reported by themselves: compare with the sform's.
    rescaled = qform.copy()
    rescaled[:3, :3] = _unit_columns(qform) * np.linalg.norm(sform[:3, :3], axis=0)
    apart = float(np.linalg.norm((corners @ (sform - rescaled).T)[:, :3], axis=1).max()) * scale
    if apart <= _APART:
        return []
    what = "orient" if turn.diagonal().min() < 0.9 else "place"
    return [
        f"its sform and qform {what} the scan differently (up to {apart:.0f} mm apart); the sform was used, check it"
    ]


def _unit_columns(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    columns: NDArray[np.float64] = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return columns


def _extensions(head: bytes, order: str, length: int) -> dict[str, str]:
    """Text of the extensions between header and voxels, by their code."""
    found: dict[str, str] = {}
    at = length + 4
    if head[length : length + 1] in (b"", b"\0"):
        return found
    while at + 8 <= len(head):
        size, code = struct.unpack(f"{order}2i", head[at : at + 8])
        if size < 8:
            break
        found[f"extension {code}"] = plain_text(head[at + 8 : at + size])
        at += size
    return found
