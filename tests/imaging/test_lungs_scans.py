"""Lungs on real scans against masks drawn by experts, and against what radiologists marked."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from anatograph.imaging.lungs import LungResult, segment_lungs
from anatograph.imaging.reading import read_mask, read_volume
from anatograph.imaging.volume import Mask, Volume


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def segmented(shared: Path, place: str) -> tuple[Volume, LungResult]:
    volume = read_volume(shared / "data" / place)
    return volume, segment_lungs(volume, "threshold")


def test_mean_dice_with_the_experts(shared: Path) -> None:
    """Every nonzero label of an expert mask is lung, the tumour of lung1 among them."""
    found = {}
    for name in ("lung1", "small001", "small002"):
        volume, result = segmented(shared, f"nifti/{name}.nii.gz")
        expert = read_mask(shared / "data" / "nifti" / f"{name}_lungs.nii.gz", like=volume)
        found[name] = dice(result.mask.lungs, expert.lungs)
        right, left = ((result.mask.array == side).any(axis=(0, 1)).nonzero()[0].mean() for side in (1, 2))
        assert right < left
    assert min(found.values()) > 0.95, found
    assert np.mean(list(found.values())) >= 0.965, found


def test_infected_lung_is_in_the_mask(shared: Path) -> None:
    """Slices in which radiologists saw disease in the left lung: no hollow at its outer rim, and both lungs full."""
    volume, result = segmented(shared, "dicom/covid002")
    with (shared / "data" / "dicom" / "covid002_slices.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["infected"] == "1"]
    heights = [float(row["z_lps_mm"]) for row in rows]
    slices = np.unique(np.rint([(h - volume.origin[2]) / volume.spacing[2] for h in heights]).astype(int))
    slices = slices[(slices >= 0) & (slices < volume.array.shape[0])]
    assert len(slices) > 20
    left, right = result.mask.array[slices] == Mask.LEFT, result.mask.array[slices] == Mask.RIGHT
    dense = volume.array[slices] > -500
    assert (dense & left).sum() > 1.2 * (dense & right).sum()
    assert 0.7 < float(result.quality["left_right_ratio"]) < 1.0
    assert float(result.quality["holes_fraction"]) < 0.005


@pytest.mark.parametrize("place", ["dicom/normal002", "dicom/thick001"])
def test_ordinary_scans_are_plausible(shared: Path, place: str) -> None:
    _, result = segmented(shared, place)
    quality = result.quality
    assert 2500 < float(quality["volume_ml"]) < 6500
    assert 0.6 < float(quality["left_right_ratio"]) < 1.6
    assert float(quality["holes_fraction"]) < 0.01
    assert -880 < float(quality["mean_hu"]) < -700
    assert not result.notes


@pytest.fixture(scope="module")
def consistency() -> ModuleType:
    """The benchmark that alters scans."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "lung_consistency.py"
    spec = importlib.util.spec_from_file_location("lung_consistency", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("place", "case"),
    [
        ("nifti/small001.nii.gz", "narrow field"),
        ("nifti/small002.nii.gz", "sharp kernel"),
        ("dicom/thick001", "thin"),
        ("dicom/thick001", "blur"),
    ],
)
def test_an_altered_copy_has_the_same_lungs(shared: Path, consistency: ModuleType, place: str, case: str) -> None:
    volume, result = segmented(shared, place)
    figures, _ = consistency.compare(*consistency.altered(volume, result.mask, case, 0, 2.0))
    assert figures["passed"], figures
