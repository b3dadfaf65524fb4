"""Lung masks: found in the scan, or by a network whose weights the user has."""

from anatograph.imaging.lungs.choose import segment_lungs
from anatograph.imaging.lungs.quality import lung_quality
from anatograph.imaging.lungs.result import LungResult
from anatograph.imaging.lungs.surroundings import surroundings

__all__ = ["LungResult", "lung_quality", "segment_lungs", "surroundings"]
