"""Volumes and maps that travel in the page: the right place, the right value, and a header that says nothing else."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from anatograph.errors import UserError
from anatograph.imaging.volume import Frame, Mask, Volume
from anatograph.reporting.maps import MapFile, find_maps
from anatograph.reporting.viewers import palette
from anatograph.reporting.volumes import HU_RANGE, map_on, shrink

FRAME = Frame((36, 45, 60), (1.0, 1.2, 2.0), (-31.0, 12.0, 400.0))
STEP = (HU_RANGE[1] - HU_RANGE[0]) / 255


def scan_and_lungs() -> tuple[Volume, Mask]:
    random = np.random.default_rng(3)
    array = random.integers(-1000, 300, FRAME.shape).astype(np.int16)
    labels = np.zeros(FRAME.shape, dtype=np.uint8)
    labels[12:24, 20:30, 25:40] = 1
    return Volume(array, FRAME), Mask(labels, FRAME)


def as_read(text: str, folder: Path) -> sitk.Image:
    path = folder / "small.nii.gz"
    path.write_bytes(base64.b64decode(text))
    return sitk.ReadImage(str(path), sitk.sitkFloat32)


def test_a_small_scan_is_the_scan(tmp_path: Path) -> None:
    """SimpleITK reads it as the block means of the scan, in the same place, where blocks are whole voxels."""
    scan, lungs = scan_and_lungs()
    frame = Frame(FRAME.shape, (0.5, 0.75, 0.5), FRAME.origin)
    scan, lungs = Volume(scan.array, frame), Mask(lungs.array, frame)
    small = shrink(scan, lungs, 6e3)
    image = as_read(small.base64(), tmp_path)
    assert len(small.base64()) <= 6e3
    assert image.GetSpacing() == pytest.approx((1.5, 1.5, 1.5))
    factors = [3, 2, 3]
    whole = sitk.GetImageFromArray(scan.array.astype(np.float32))
    whole.SetSpacing(frame.spacing)
    whole.SetOrigin(frame.origin)
    first = whole.TransformPhysicalPointToContinuousIndex(image.TransformIndexToPhysicalPoint((0, 0, 0)))
    start = [round(f - (n - 1) / 2) for f, n in zip(first, factors, strict=True)]
    np.testing.assert_allclose(first, [s + (n - 1) / 2 for s, n in zip(start, factors, strict=True)], atol=1e-3)
    size = [s * n for s, n in zip(image.GetSize(), factors, strict=True)]
    wanted = sitk.BinShrink(sitk.RegionOfInterest(whole, size, start), factors)
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(wanted), atol=STEP / 2 + 1e-2)


def test_boxes_of_part_voxels_keep_a_ramp_a_ramp() -> None:
    """A linear ramp has its value at the centre of every box, whatever share of a voxel a box takes."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in FRAME.shape), indexing="ij")
    points = np.stack([x, y, z], axis=-1) * FRAME.spacing + np.asarray(FRAME.origin)
    weights = np.array([5.0, -3.0, 2.0])
    scan = Volume(np.rint(points @ weights - 1200).astype(np.int16), FRAME)
    lungs = Mask(np.ones(FRAME.shape, dtype=np.uint8), FRAME)
    small = shrink(scan, lungs, 60e3)
    assert small.frame.spacing == pytest.approx((1.5, 1.5, 2.0))
    for index in [(0, 0, 0), (7, 11, 13), (20, 30, 30)]:
        value = small.values[index[::-1]]
        assert abs(value - (small.frame.to_lps(index) @ weights - 1200)) < STEP / 2 + 0.6


def test_what_does_not_fit_is_as_coarse_as_it_gets(tmp_path: Path) -> None:
    scan, lungs = scan_and_lungs()
    assert shrink(scan, lungs, 1e9).frame.spacing == FRAME.spacing
    coarse = shrink(scan, lungs, 10.0)
    assert coarse.frame.spacing == pytest.approx((4.0, 4.0, 4.0))
    header = gzip.decompress(coarse.nifti())[:352]
    words = header[4:40] + header[124:252] + header[268:280] + header[328:344]
    assert not any(words)  # no names, descriptions or dates


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR"])
def test_a_map_lies_where_it_was(orientation: str, tmp_path: Path) -> None:
    scan, lungs = scan_and_lungs()
    small = shrink(scan, lungs, 1e9)
    values = np.zeros(FRAME.shape, dtype=np.float32)
    values[12:24, 20:30, 25:40] = np.random.default_rng(5).uniform(0.2, 0.9, (12, 10, 15))
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(FRAME.spacing)
    image.SetOrigin(FRAME.origin)
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(tmp_path / "map.nii.gz"))
    found = map_on(tmp_path / "map.nii.gz", small, 0.5, (0.1, 1.0))
    read = as_read(found.base64(), tmp_path)
    for index in [(30, 25, 15), (25, 20, 12), (39, 29, 23)]:
        point = FRAME.to_lps(index)
        value = read[read.TransformPhysicalPointToIndex(point.tolist())]
        assert abs(value - values[index[2], index[1], index[0]]) <= 0.9 / 254 / 2 + 1e-4
    assert ((found.codes > 0).sum()) == (values > 0).sum()
    (tmp_path / "bad.nii.gz").write_bytes(b"no map")
    with pytest.raises(UserError, match="cannot be read"):
        map_on(tmp_path / "bad.nii.gz", small, 0.5, (0.1, 1.0))


LEGEND = {
    "format_version": 1, "kind": "deviation", "subject_id": "a_b", "target": None, "class": None, "title": "t",
    "meaning": "how unusual", "high": "unusual", "low": None, "neutral": 0, "range": [0, 4], "colours": "sequential",
    "strongest": [{"landmark": 3, "place": "right upper, back", "lps_mm": [1, 2, 3], "value": 3.9}],
}  # fmt: skip


def legend(folder: Path, **changed: object) -> MapFile:
    (folder / "a_b_deviation.nii.gz").write_bytes(b"")
    (folder / "a_b_deviation.json").write_text(json.dumps(LEGEND | changed), encoding="utf-8")
    (found,) = find_maps([folder], ["a", "a_b"])
    return found


def test_a_legend_is_taken_at_its_word(tmp_path: Path) -> None:
    found = legend(tmp_path)
    assert (found.subject_id, found.name, found.high, found.ends) == ("a_b", "deviation", "unusual", (0.0, 4.0))
    assert not found.diverging
    shades = palette(found).astype(int)
    assert not shades[0].any()
    assert (np.diff(shades[:, 3]) >= 0).all()  # the more unusual, the less clear
    two = palette(legend(tmp_path, low="less", range=[-2, 2])).astype(int)
    assert two[255, 0] > two[255, 2]  # red
    assert two[1, 2] > two[1, 0]  # blue
    assert two[128, 3] < 10  # about the neutral value nothing is drawn
    probe = legend(tmp_path, kind="probe", target="GOLD", low="against", **{"class": "2"})
    assert probe.name == "GOLD = 2"
    for high, name in (
        ("evidence for GOLD of 2 or more", "GOLD of 2 or more"),
        ("evidence for GOLD = 2, against the other classes", "GOLD = 2"),
        ("speaks for GOLD of 2 or more", "GOLD of 2 or more"),  # written by earlier versions
        ("warm", "GOLD = 2"),
    ):
        assert legend(tmp_path, kind="probe", target="GOLD", high=high, **{"class": "2"}).name == name
    assert find_maps([tmp_path], ["a"]) == []  # another study's


def test_legends_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="install a newer"):
        legend(tmp_path, format_version=2)
    with pytest.raises(UserError, match="range 4 to 4 is empty"):
        legend(tmp_path, range=[4, 4])
    (tmp_path / "a_b_deviation.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        find_maps([tmp_path], ["a_b"])
