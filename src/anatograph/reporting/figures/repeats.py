"""Figures of test-retest error: what scans of an unchanged patient differ by, by place in the lungs."""

from __future__ import annotations

import pandas as pd

from anatograph.reporting.figures.figure import COLOURS, Figure, axis, identifier, plain, short, title

_KINDS = (
    (
        "smallest_detectable_change",
        "Smallest detectable change",
        "change of the deviation, normal units",
        "Smallest detectable change of a region's deviation: 1.96 √2 times its within-subject standard deviation",
    ),
    (
        "shift_limit",
        "Limit of the shift",
        "shift; 1 is the distance of two subjects",
        "Shift of a region's embedding that 95 % of repeat scans stay below; 1 is the median distance of two different "
        "subjects at the same landmark",
    ),
)
"""Column, title, axis and caption."""


def repeat_errors(table: pd.DataFrame) -> list[Figure]:
    """For each of the two yardsticks of a change, a box for each place, its landmarks as points."""
    places = sorted(table["place"].astype(str).unique(), key=order_of)
    pairs = int(table["pairs"].max())
    found = []
    for number, (column, name, unit, words) in enumerate(_KINDS):
        known = table[table[column].notna()]
        if not len(known):
            continue
        traces = []
        for place in places:
            rows = known[known["place"].astype(str) == place]
            if len(rows):
                traces.append(
                    {"type": "box", "name": plain(place), "x": short(rows[column]), "y": [plain(place)] * len(rows),
                     "orientation": "h", "text": [f"landmark {int(j)}" for j in rows["landmark"]], "boxpoints": "all",
                     "jitter": 0.35, "pointpos": 0, "marker": {"size": 4, "color": COLOURS[number], "opacity": 0.6},
                     "line": {"width": 1.5, "color": COLOURS[number]}, "fillcolor": f"{COLOURS[number]}2e"}
                )  # fmt: skip
        layout = {
            "title": title(name),
            "xaxis": axis(unit, rangemode="tozero"),
            "yaxis": axis("", autorange="reversed"),
            "showlegend": False,
        }
        middle = float(known[column].median())
        caption = (
            f"{words}, from {pairs} pairs of repeat scans. Points are landmarks; boxes are median and quartiles of the "
            f"landmarks of a place, whiskers reach to 1.5 IQR. Median of all landmarks {middle:.2g}."
        )
        alt = f"{name} by place in the lungs; median of all landmarks {middle:.2g}"
        found.append(Figure(identifier("repeat", column), traces, layout, caption, alt, 120 + 30 * len(places)))
    return found


def order_of(place: str) -> tuple[int, ...]:
    """Sorts places: right before left, from the top down, anterior before posterior."""
    words = place.replace(",", "").split()
    return tuple(
        next((k for k, word in enumerate(known) if word in words), len(known))
        for known in (("right", "left"), ("upper", "middle", "lower"), ("anterior", "posterior"))
    )
