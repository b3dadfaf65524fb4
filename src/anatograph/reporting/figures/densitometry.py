"""Figures of quantitative CT: each measure by part of the lungs, for every group of subjects."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

from anatograph.reporting.figures.figure import (
    COLOURS,
    NOT_KNOWN,
    SYMBOLS,
    Figure,
    Json,
    axis,
    identifier,
    plain,
    short,
)
from anatograph.reporting.figures.figure import title as heading
from anatograph.reporting.redaction import Discretion

MEASURES: Mapping[str, tuple[str, str, str, float]] = {
    "laa950": ("LAA-950", "share of voxels below -950 HU", "%", 100),
    "perc15": ("Perc15", "15th percentile of density", "HU", 1),
    "mean_hu": ("Mean density", "", "HU", 1),
    "ground_glass": ("Ground glass", "share of voxels from -700 to below -300 HU", "%", 100),
    "consolidation": ("Consolidation", "share of voxels of -300 HU and denser", "%", 100),
    "volume_ml": ("Volume", "", "ml", 1),
}
"""Measures that are drawn: title, definition where the title is none, unit, and the factor to that unit."""
LEAST_FOR_A_BOX = 10
"""Subjects of a group below which their points are drawn without a box, whose quartiles would be noise."""
_MOST_NAMED = 300


def by_zone(
    table: pd.DataFrame, zones: Mapping[str, str], groups: pd.Series, group_name: str, discretion: Discretion
) -> list[Figure]:
    """A figure for each of `MEASURES`: parts of the lungs across, a box and points for each group.

    Args:
        table: as `densitometry` writes it.
        zones: names of the parts in the table, and in words.
        groups: group of each row of ``table``.
        group_name: the column that ``groups`` come from; empty for a single group.
        discretion: what subjects are called.
    """
    counts = groups.value_counts()
    counts = counts.loc[sorted(counts.index, key=natural)]  # as the map of subjects lists them
    boxed = [name for name in counts.index if counts[name] >= LEAST_FOR_A_BOX]
    drawn = "Points are subjects" if len(table) <= _MOST_NAMED else "Points beyond the whiskers are subjects"
    if boxed:
        few = " with at least 10 subjects" if len(boxed) < len(counts) else ""
        drawn += f"; boxes are median and quartiles of each group{few}, whiskers reach to 1.5 IQR"
    sizes = ", ".join(f"{name} n = {counts[name]}" for name in counts.index) if group_name else f"n = {len(table)}"
    found = []
    for measure, (name, words, unit, factor) in MEASURES.items():
        shown = [zone for zone in zones if f"{zone}_{measure}" in table and table[f"{zone}_{measure}"].notna().any()]
        if not shown:
            continue
        traces = [
            _boxes(table[groups == group], group, number, measure, factor, {z: zones[z] for z in shown}, discretion)
            for number, group in enumerate(counts.index)
        ]
        traces += [_key(group, number) for number, group in enumerate(counts.index)]
        most = max(1.0, *(100 * float(table[f"{zone}_{measure}"].max()) for zone in shown)) if unit == "%" else None
        layout = {
            "title": heading(name),
            "boxmode": "group",
            "xaxis": axis(""),
            "yaxis": axis(f"{name}, {unit}", **({} if most is None else {"range": [-0.02 * most, 1.05 * most]})),
            "showlegend": bool(group_name),
        }
        by = f" by {group_name}" if group_name else ""
        what = f"{name} ({words})" if words else name
        caption = f"{what} of the whole lungs and their parts{by} ({sizes}). {drawn}."
        if measure == "laa950" and "laa950_from_noise" in table:
            noisy = int((table["laa950_from_noise"] >= 0.02).sum())
            if noisy:
                scans = "1 scan" if noisy == 1 else f"{noisy} scans"
                caption += (
                    f" In {scans} noise alone would put 2 % or more of a homogeneous lung below -950 HU; LAA-950 is "
                    "not reliable there."
                )
        medians = "; ".join(
            f"{group} median {factor * table.loc[groups == group, f'{shown[0]}_{measure}'].median():.3g} {unit}"
            for group in counts.index
        )
        alt = f"{name} by part of the lungs; {zones[shown[0]]}: {medians}"
        found.append(Figure(identifier("densitometry", measure), traces, layout, caption, alt, 360))
    return found


def natural(name: str) -> tuple[bool, list[tuple[bool, int, str]]]:
    """Numbers by their value, what is not known last."""
    parts = re.split(r"(\d+)", name.lower())
    return name == NOT_KNOWN, [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]


def _key(group: str, number: int) -> Json:
    """An entry of the legend; that of a box without lines would be invisible."""
    marker = {"size": 8, "color": COLOURS[number % len(COLOURS)], "symbol": SYMBOLS[number % len(SYMBOLS)]}
    return {"type": "scatter", "mode": "markers", "name": plain(group), "x": [None], "y": [None], "marker": marker}


def _boxes(
    rows: pd.DataFrame,
    group: str,
    number: int,
    measure: str,
    factor: float,
    zones: Mapping[str, str],
    discretion: Discretion,
) -> Json:
    few, named = len(rows) < LEAST_FOR_A_BOX, len(rows) <= _MOST_NAMED
    colour = COLOURS[number % len(COLOURS)]
    names = [plain(discretion.subject(str(name))) for name in rows["subject_id"]]
    return {
        "type": "box",
        "name": plain(group),
        "showlegend": False,
        "x": [words for words in zones.values() for _ in range(len(rows))],
        "y": [value for zone in zones for value in short(factor * rows[f"{zone}_{measure}"])],
        **({"text": names * len(zones)} if named else {}),
        "boxpoints": "all" if named else "outliers",
        "jitter": 0.35,
        "pointpos": 0,
        "marker": {"size": 5, "color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)], "opacity": 0.75},
        "line": {"width": 0 if few else 1.5, "color": colour},
        "fillcolor": "rgba(0,0,0,0)" if few else f"{colour}2e",
        "hoveron": "points" if few else "boxes+points",
    }
