"""Chosen subjects for the page's viewer: the scan, its maps, a picture for print, and legends in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.views import AXIAL, CORONAL, SAGITTAL, View, grey_of, position
from anatograph.reporting.maps import MapFile
from anatograph.reporting.redaction import Discretion
from anatograph.reporting.volumes import SmallVolume, map_on, shrink
from anatograph.study.quality.webp import webp
from anatograph.study.scans import find_scan, from_patches
from anatograph.study.store import Study

MOST_UNASKED = 4
"""Subjects shown where none is named: the first that have maps."""
_PIXEL = 1.1  # mm of a pixel of the pictures for print


@dataclass(frozen=True, eq=False)
class ViewerMap:
    """A map on the grid of its subject's small scan."""

    file: MapFile
    """Where it came from, and its legend."""
    volume: str
    """Base64 of a gzipped NIfTI."""
    peak: tuple[float, float, float]
    """LPS mm of the strongest place."""
    picture: str
    """Base64 WebP: three slices through the peak."""
    places: tuple[tuple[str, str], ...]
    """The strongest regions in words, and their values."""
    palette: list[list[int]]
    """256 colours RGBA, as `explain` draws them; the first stands for no value and is clear."""

    @property
    def legend(self) -> str:
        """The colours from end to end as a CSS gradient."""
        stops = [f"rgb({red},{green},{blue})" for red, green, blue, _ in [*self.palette[1::32], self.palette[-1]]]
        return f"linear-gradient(90deg,{','.join(stops)})"

    @property
    def ticks(self) -> list[tuple[str, float]]:
        """Numbers below the colour bar, and where each stands in per cent of its length."""
        low, high = self.file.ends
        return [(f"{low + share * (high - low):.3g}", round(100 * share, 1)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]

    @property
    def where(self) -> str:
        """The strongest place: directions with positive numbers."""
        return ", ".join(position(axis, value) for axis, value in enumerate(self.peak)) + " mm"


@dataclass(frozen=True, eq=False)
class Viewer:
    """One subject in the viewer."""

    name: str
    """As shown on the page."""
    volume: str
    """Base64 of a gzipped NIfTI in HU."""
    middle: tuple[float, float, float]
    """LPS mm of the middle of the scan."""
    spacing: tuple[float, float, float]
    """mm between the voxels in the page."""
    note: str
    """How what is shown differs from the scan."""
    maps: tuple[ViewerMap, ...]
    """In the order of the folders."""
    picture: str
    """Base64 WebP without a map; empty where maps have theirs."""
    landmarks: list[list[int]]
    """(N, 3) LPS mm of the atlas's landmarks in the subject, to name the region under the pointer."""

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return len(self.volume) + len(self.picture) + sum(len(one.volume) + len(one.picture) for one in self.maps)


def choose(study: Study, asked: Sequence[str], maps: Sequence[MapFile]) -> list[str]:
    """Subjects to show: the given ones, else the first few that have maps.

    Raises:
        UserError: a subject that is not in the study.
    """
    for name in asked:
        if name not in study:
            raise UserError(
                f"The study {study.path} has no subject '{name}', which the viewer was to show; name another."
            )
    return list(dict.fromkeys(asked or [one.subject_id for one in maps]))[: None if asked else MOST_UNASKED]


def viewers(
    study: Study,
    names: Sequence[str],
    maps: Sequence[MapFile],
    images: Mapping[str, Path],
    discretion: Discretion,
    most_bytes: float,
    progress: Callable[[], None] = lambda: None,
) -> tuple[list[Viewer], list[str]]:
    """Viewers of the subjects that fit ``most_bytes``, and in words what did not."""
    made: list[Viewer] = []
    notices: list[str] = []
    left = most_bytes
    for number, name in enumerate(names):
        share = left / (len(names) - number)
        one = _viewer(study, name, [m for m in maps if m.subject_id == name], images.get(name), discretion, share)
        if one.size > left:
            notices.append(f"{discretion.subject(name)} is not in the viewer, as the page would grow too large")
        else:
            made.append(one)
            left -= one.size
        progress()
    return made, notices


def palette(file: MapFile) -> NDArray[np.uint8]:
    """(256, 4) RGBA of the codes of a map as `explain` draws its values; code 0 is clear."""
    from anatograph.explanation.map_picture import colours

    low, high = file.ends
    values = np.linspace(low, high, 255, dtype=np.float32)
    shades = colours(np.where(values == 0, np.float32(1e-6), values), file.words)
    coloured: NDArray[np.uint8] = np.rint(255 * np.vstack([np.zeros(4, dtype=np.float32), shades])).astype(np.uint8)
    return coloured


def _viewer(
    study: Study, name: str, maps: Sequence[MapFile], image: Path | None, discretion: Discretion, share: float
) -> Viewer:
    subject = study.subject(name)
    lungs = subject.lungs()
    scan = find_scan(subject, image)
    what = "The scan"
    if scan is None:
        scan = from_patches(subject, study.atlas.patch_size)
        what = "The scan's file cannot be found; these are the patches that the study holds of it,"
    # A map takes about a tenth of its scan, a picture some 40 kB.
    small = shrink(scan, lungs, (share - 40e3 * max(1, len(maps))) / (1 + 0.12 * len(maps)))
    spacing = " × ".join(f"{value:.3g}" for value in small.frame.spacing)
    native = all(abs(a - b) < 1e-6 for a, b in zip(small.frame.spacing, scan.frame.spacing, strict=True))
    how = "with its own voxels of" if native else "averaged to voxels of"
    note = f"{what} {how} {spacing} mm, cropped to the lungs, in steps of {small.slope:.0f} HU; not for diagnosis."
    centre = (np.asarray(small.frame.shape[::-1]) - 1) / 2
    middle = _triple(small.frame.to_lps(centre))
    drawn = tuple(_map(one, small, discretion) for one in maps)
    plain = "" if drawn else _picture(small, None, None, middle)
    marks = np.rint(subject.landmarks).astype(int).tolist()
    return Viewer(discretion.subject(name), small.base64(), middle, small.frame.spacing, note, drawn, plain, marks)


def _map(file: MapFile, small: SmallVolume, discretion: Discretion) -> ViewerMap:
    volume = map_on(file.path, small, file.neutral, file.ends)
    strongest = [place for place in file.strongest if place.get("lps_mm") is not None]
    peak = _triple(np.asarray(strongest[0]["lps_mm"], dtype=float)) if strongest else _peak(volume)
    places = tuple(
        (discretion.sentence(str(place["place"])), f"{float(place['value']):.3g}")
        for place in file.strongest
        if place.get("place") and isinstance(place.get("value"), int | float)
    )
    shades = palette(file)
    return ViewerMap(file, volume.base64(), peak, _picture(small, volume, shades, peak), places, shades.tolist())


def _peak(volume: SmallVolume) -> tuple[float, float, float]:
    """LPS mm in the middle of what is highest."""
    top = np.argwhere(volume.codes == max(int(volume.codes.max()), 1))
    if not len(top):
        top = (np.asarray([volume.codes.shape]) - 1) // 2
    middle = top[np.abs(top - np.median(top, axis=0)).sum(axis=1).argmin()]
    return _triple(volume.frame.to_lps(middle[::-1]))


def _triple(point: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])


def _picture(
    ct: SmallVolume, heat: SmallVolume | None, shades: NDArray[np.uint8] | None, at: tuple[float, float, float]
) -> str:
    """Base64 WebP: axial, coronal and sagittal slices side by side, with the patient's sides marked."""
    from PIL import Image

    panels = [_panel(ct, heat, shades, view, at) for view in (AXIAL, CORONAL, SAGITTAL)]
    height = max(panel.height for panel in panels)
    sheet = Image.new("RGB", (sum(panel.width for panel in panels) + 8, height), "black")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, (height - panel.height) // 2))
        left += panel.width + 4
    return webp(sheet, 70)


def _panel(
    ct: SmallVolume,
    heat: SmallVolume | None,
    shades: NDArray[np.uint8] | None,
    view: View,
    at: tuple[float, float, float],
) -> Any:
    from PIL import Image, ImageDraw, ImageFont

    frame = ct.frame
    index = int(np.clip(np.rint(frame.to_index(at))[view.through], 0, frame.shape[2 - view.through] - 1))
    grey = grey_of(view.slab(ct.values, index))
    size = [round(n * frame.spacing[axis] / _PIXEL) for n, axis in zip(grey.shape, (view.up, view.across), strict=True)]
    image = Image.fromarray(grey).resize((size[1], size[0]), Image.Resampling.BICUBIC).convert("RGB")
    if heat is not None and shades is not None:
        codes = view.slab(heat.codes, index)
        over = Image.fromarray(shades[codes]).resize(image.size, Image.Resampling.NEAREST)
        image.paste(over, (0, 0), over)
    if not view.downwards:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    middle = (image.width // 2, image.height // 2)
    for at_edge, side, anchor in (
        ((5, middle[1]), view.sides[0], "lm"),
        ((image.width - 5, middle[1]), view.sides[1], "rm"),
        ((middle[0], 4), view.ends[0], "mt"),
        ((middle[0], image.height - 4), view.ends[1], "mb"),
    ):
        pen.text(at_edge, side, fill="#ffd400", stroke_fill="#1a1a1a", stroke_width=1, font=font, anchor=anchor)
    return image
