"""One figure: what is drawn, its axes, and its caption."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999933", "#AA4499")
"""Of Okabe and Ito, and Tol for the last two: distinguishable with any colour vision, visible in both themes."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down")
"""Of classes and methods, so that colour is never needed."""
NOT_KNOWN = "not known"
"""Class of the subjects without a value."""
NEUTRAL = "#8d9aa8"
"""Of reference lines."""


@dataclass(frozen=True)
class Figure:
    """A plot in the page; it is drawn when it comes into sight."""

    name: str
    """Unique in the page, fit for an identifier."""
    traces: list[Json]
    """As Plotly takes them."""
    layout: Json
    """Axes and shapes; colours of the theme are added in the browser."""
    caption: str
    """One or more sentences, ending in a full stop."""
    alt: str
    """What is seen, for readers who see no pictures."""
    height: int = 320
    """Pixels."""
    click: tuple[str, ...] = field(default=())
    """Subjects of the points of the last trace: a click on a point goes to the subject's card."""

    @property
    def spec(self) -> Json:
        """What the browser draws."""
        return {"traces": self.traces, "layout": self.layout, "height": self.height, "click": list(self.click)}


def axis(title: str, **more: Any) -> Json:
    """An axis with its title (and unit)."""
    return {"title": {"text": plain(title)}, **more}


def title(text: str) -> Json:
    """The line above a plot."""
    return {"text": plain(text), "font": {"size": 14}, "x": 0, "xanchor": "left", "y": 0.98}


def diagonal(ends: Sequence[float], name: str) -> Json:
    """A dashed line along which both axes are equal."""
    line = {"color": NEUTRAL, "width": 1.5, "dash": "dash"}
    both = short(ends)
    return {"type": "scatter", "mode": "lines", "name": name, "x": both, "y": both, "line": line, "hoverinfo": "skip"}


def band(
    x: Sequence[float | None], low: Iterable[float], high: Iterable[float], colour: str, name: str, **line: Any
) -> list[Json]:
    """Two traces with the area between them filled; ``line`` is its shape."""
    edge: Json = {"type": "scatter", "mode": "lines", "x": x, "hoverinfo": "skip", "showlegend": False,
                  "line": {"width": 0, "color": colour, **line}, "name": name}  # fmt: skip
    return [{**edge, "y": short(low)}, {**edge, "y": short(high), "fill": "tonexty", "fillcolor": f"{colour}2e"}]


def plain(text: object) -> str:
    """A text as Plotly shows it as it is: it would read a few HTML tags."""
    return html.escape(str(text), quote=False)


def identifier(*parts: str) -> str:
    """A name for a figure from any texts."""
    return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") or "x" for part in parts)


def short(values: Iterable[float], digits: int = 4) -> list[float | None]:
    """Numbers as the page holds them; None for what is undefined."""
    return [float(f"{v:.{digits}g}") if v == v and abs(v) != float("inf") else None for v in map(float, values)]
