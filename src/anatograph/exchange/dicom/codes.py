"""Coded concepts of the results: SNOMED CT, DCM and UCUM where there is a code, else the scheme 99ANATOGRAPH."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCHEME = "99ANATOGRAPH"
"""Private coding scheme; its codes are names of measures and figures in the documentation."""

SIDES: Mapping[int, tuple[str, tuple[str, str, str], tuple[int, int, int]]] = {
    1: ("Right lung", ("3341006", "SCT", "Right lung"), (111, 184, 210)),
    2: ("Left lung", ("44029006", "SCT", "Left lung"), (172, 138, 101)),
    3: ("Lung", ("39607008", "SCT", "Lung"), (111, 184, 210)),
}
"""Label of the mask: name, code, and recommended colour (RGB)."""
ZONES = {1: "right", 2: "left", 3: "whole"}
"""Label of the mask: zone of densitometry."""

MEASURES: Mapping[str, tuple[tuple[str, str, str], tuple[str, str], float]] = {
    "volume_ml": (("118565006", "SCT", "Volume"), ("ml", "milliliter"), 1.0),
    "mass_g": (("118538004", "SCT", "Mass"), ("g", "gram"), 1.0),
    "mean_hu": (("112031", "DCM", "Attenuation Coefficient"), ("[hnsf'U]", "Hounsfield unit"), 1.0),
    "perc15": (("PERC15", SCHEME, "15th percentile of lung density"), ("[hnsf'U]", "Hounsfield unit"), 1.0),
    "laa950": (("LAA950", SCHEME, "Lung voxels below -950 HU"), ("%", "Percent"), 100.0),
    "laa910": (("LAA910", SCHEME, "Lung voxels below -910 HU"), ("%", "Percent"), 100.0),
    "laa856": (("LAA856", SCHEME, "Lung voxels below -856 HU"), ("%", "Percent"), 100.0),
    "ground_glass": (("GGO", SCHEME, "Lung voxels from -700 to -300 HU"), ("%", "Percent"), 100.0),
    "consolidation": (("CONSOLIDATION", SCHEME, "Lung voxels from -300 HU"), ("%", "Percent"), 100.0),
}
"""Measure of densitometry: its concept, its UCUM unit, and the factor to that unit."""

FIGURES: Mapping[str, tuple[str, str, tuple[str, str]]] = {
    "registration_dice": ("REG_DICE", "Dice of the mapped atlas and the lungs", ("1", "no units")),
    "lungs_dense_fraction": ("DENSE", "Share of the lung mask above -300 HU", ("1", "no units")),
    "lungs_truncated_top": ("CUT_TOP", "Lungs cut off at the top of the scan", ("1", "no units")),
    "lungs_truncated_base": ("CUT_BASE", "Lungs cut off at the base of the scan", ("1", "no units")),
    "landmarks_outside_lungs": ("LM_OUTSIDE", "Landmarks outside the lungs", ("1", "no units")),
    "scan_coarsest_mm": ("COARSEST", "Largest voxel spacing", ("mm", "millimeter")),
}
"""Quality figure: code, meaning, unit."""
QUALITY = ("QUALITY", SCHEME, "Quality level of the scan")


def concept(code: tuple[str, str, str]) -> Any:
    """A highdicom concept of value, scheme and meaning."""
    from highdicom.sr import CodedConcept

    value, scheme, meaning = code
    return CodedConcept(value, scheme, meaning)


def unit(code: tuple[str, str]) -> Any:
    """A UCUM unit."""
    return concept((code[0], "UCUM", code[1]))
