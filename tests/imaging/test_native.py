"""Names that are not UTF-8: ITK ends the process at them, so they must not reach it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.reading import inspect_scan, read_mask, read_volume, write_mask
from anatograph.imaging.volume import Frame, Mask
from fixtures.chest import SeriesWriter


@pytest.fixture
def latin(tmp_path: Path) -> Path:
    """A folder called Brüche in Latin-1."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Br\xfcche"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    return folder


def test_names_that_are_not_utf8_are_refused(latin: Path, tmp_path: Path, chest: NDArray[np.int16]) -> None:
    mask = Mask((chest < -700).astype(np.uint8), Frame(chest.shape, (2.0, 2.5, 3.0), (0.0, 0.0, 0.0)))
    write_mask(tmp_path / "scan.nii.gz", mask)
    (tmp_path / "scan.nii.gz").rename(latin / "scan.nii.gz")
    SeriesWriter(chest, uid="1.2.3").write(latin / "dicom")
    for use in (
        lambda: read_volume(latin / "scan.nii.gz"),
        lambda: read_mask(latin / "scan.nii.gz"),
        lambda: inspect_scan(latin / "scan.nii.gz"),
        lambda: read_volume(latin / "dicom"),
        lambda: write_mask(latin / "out.nii.gz", mask),
    ):
        with pytest.raises(UserError, match=r"Br\\udcfcche.*not UTF-8.*rename") as caught:
            use()
        str(caught.value).encode()  # the message itself can be written anywhere
