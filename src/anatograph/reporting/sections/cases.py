"""For each explained target, the maps of the subjects with the highest and the lowest prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from anatograph.reporting.maps import ENDING, MapFile
from anatograph.reporting.redaction import Discretion
from anatograph.study.quality.webp import webp

_WIDTH = 1100
_MOST_TARGETS = 6


@dataclass(frozen=True)
class Case:
    """A map as `explain` drew it."""

    picture: str
    """Base64 WebP."""
    alt: str
    """What is seen."""
    caption: str
    """For a paper."""


def cases(maps: Sequence[MapFile], predictions: pd.DataFrame | None, discretion: Discretion) -> list[Case]:
    """The strongest and the weakest case of each target, of those that have maps and a held-out prediction."""
    found: list[Case] = []
    if predictions is None:
        return found
    for target in list(dict.fromkeys(one.target for one in maps if one.kind == "probe" and one.target))[:_MOST_TARGETS]:
        own = [one for one in maps if one.target == target and one.kind == "probe" and not one.withheld]
        for name in dict.fromkeys(one.name for one in own):
            known = [
                (value, one) for one in own if one.name == name if (value := _predicted(one, predictions)) is not None
            ]
            known.sort(key=lambda pair: pair[0][0])
            ends = [("", known[0])] if len(known) == 1 else []
            if len(known) > 1:
                ends = [("the highest ", known[-1]), ("the lowest ", known[0])]
            found += [case for role, (value, one) in ends if (case := _case(one, role, value, discretion)) is not None]
    return found


def _predicted(one: MapFile, predictions: pd.DataFrame) -> tuple[float, str] | None:
    """Held-out prediction of the map's subject (of its class, where it has one), and the truth in words."""
    rows = predictions[
        (predictions["target"] == one.target) & (predictions["subject_id"].astype(str) == one.subject_id)
    ]
    column = f"probability_{one.class_name}" if one.class_name else "prediction"
    if not len(rows) or column not in rows or rows[column].isna().all():
        return None
    truth = rows["truth_class" if one.class_name else "truth"].iloc[0]
    return float(rows[column].mean()), str(truth) if one.class_name else f"{float(truth):.3g}"


def _case(one: MapFile, role: str, value: tuple[float, str], discretion: Discretion) -> Case | None:
    """None where there is no picture, or where it may name a subject whose name is withheld."""
    from PIL import Image, UnidentifiedImageError

    name = discretion.subject(one.subject_id)
    path = one.path.with_name(one.path.name.removesuffix(ENDING) + ".png")
    if name != one.subject_id:
        return None
    try:
        with Image.open(path) as image:
            drawn = image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    drawn.thumbnail((_WIDTH, _WIDTH))
    what = "probability of the class" if one.class_name else "prediction"
    among = f"{role}held-out {what} of those explained" if role else f"held-out {what}"
    caption = f"{one.name}: {name}, with {among} ({value[0]:.3g}; true {value[1]})."
    if one.evidence:
        caption += f" {one.evidence[0].upper()}{one.evidence[1:]}."
    return Case(
        webp(drawn, 72), f"map of {one.name} in {name}, axial, coronal and sagittal, with its colour bar", caption
    )
