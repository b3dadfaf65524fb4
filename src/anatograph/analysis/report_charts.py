"""Pictures of the report, each as a piece of HTML that needs nothing from outside."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
_MOST_CLASSES = 12


def picture(data: bytes, alt: str, kind: str = "png") -> str:
    """An image inside the page."""
    coded = base64.b64encode(data).decode("ascii")
    return f'<img src="data:image/{kind};base64,{coded}" alt="{escape(alt, quote=True)}" loading="lazy">'


def thumbnail(path: Path, width: int, alt: str) -> str:
    """A picture file, made smaller, inside the page."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB")
        if small.width > width:
            small = small.resize((width, round(small.height * width / small.width)), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=80, optimize=True)
    return picture(buffer.getvalue(), alt, "jpeg")


def training_curves(metrics: pd.DataFrame) -> str:
    """Loss, accuracy and effective rank of both levels against the update."""
    shown = [
        ("loss", "contrast loss"),
        ("accuracy", "own key is the nearest"),
        ("effective_rank", "effective rank of the features"),
    ]
    shown = [(name, title) for name, title in shown if name in metrics.columns and metrics[name].notna().any()]
    if not shown:
        return ""
    figure, canvases = _figure(len(shown))
    for axes, (name, title) in zip(canvases, shown, strict=True):
        for colour, (level, rows) in zip(COLOURS, metrics.groupby("level", sort=True), strict=False):
            known = rows[rows[name].notna()]
            if len(known):
                axes.plot(known["step"], known[name], color=colour, marker=".", markersize=4, label=f"{level} level")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("update", fontsize=9)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    return _as_html(figure, "training curves")


def truth_against_prediction(predictions: pd.DataFrame) -> str:
    """For each continuous target, what was predicted out of fold against what is true."""
    if "prediction" not in predictions.columns:
        return ""
    targets = [name for name, rows in predictions.groupby("target", sort=False) if rows["prediction"].notna().any()]
    if not targets:
        return ""
    figure, canvases = _figure(len(targets))
    for axes, name in zip(canvases, targets, strict=True):
        rows = predictions[predictions["target"] == name]
        ends = [min(rows["truth"].min(), rows["prediction"].min()), max(rows["truth"].max(), rows["prediction"].max())]
        axes.plot(ends, ends, color="#999999", linewidth=1)
        axes.scatter(rows["truth"], rows["prediction"], s=18, color=COLOURS[0], alpha=0.8)
        axes.set_title(str(name), fontsize=10)
        axes.set_xlabel("true", fontsize=9)
        axes.set_ylabel("predicted, held out", fontsize=9)
        axes.grid(alpha=0.3)
    return _as_html(figure, "predicted against true values")


def subject_map(
    plane: NDArray[np.float64], subject_ids: Sequence[str], table: pd.DataFrame, columns: Sequence[str]
) -> tuple[str, bool]:
    """Subjects on a plane, coloured by a column of ``table``; interactive where Plotly is installed.

    Returns the HTML and whether it needs Plotly's script.
    """
    usable = [name for name in columns if _colourable(table[name])]
    try:
        import plotly.graph_objects  # noqa: F401
    except ImportError:
        return _static_map(plane, table, usable[:6]), False
    return _plotly_map(plane, subject_ids, table, usable[:20]), True


def plotly_script() -> str:
    """Plotly itself, to be put into the page once."""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


def _plotly_map(
    plane: NDArray[np.float64], subject_ids: Sequence[str], table: pd.DataFrame, columns: Sequence[str]
) -> str:
    import plotly.graph_objects as go
    from plotly.io import to_html

    figure = go.Figure()
    shown: list[str] = []
    for column in columns or [""]:
        for trace in _traces(go, plane, subject_ids, table, column):
            trace.visible = column == (columns[0] if columns else "")
            figure.add_trace(trace)
            shown.append(column)
    if len(columns) > 1:
        buttons = [
            {"label": column, "method": "update", "args": [{"visible": [owner == column for owner in shown]}]}
            for column in columns
        ]
        figure.update_layout(
            updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.12, "yanchor": "bottom"}]
        )
    figure.update_layout(
        template="plotly_white",
        height=560,
        margin={"l": 10, "r": 10, "t": 70, "b": 10},
        dragmode="lasso",
        xaxis={"showticklabels": False, "title": ""},
        yaxis={"showticklabels": False, "title": ""},
    )
    config = {"displaylogo": False, "responsive": True, "plotlyServerURL": ""}
    return str(to_html(figure, include_plotlyjs=False, full_html=False, config=config, div_id="subject-map"))


def _traces(
    go: Any, plane: NDArray[np.float64], subject_ids: Sequence[str], table: pd.DataFrame, column: str
) -> list[Any]:
    common = {"mode": "markers"}
    if not column:
        return [go.Scatter(x=plane[:, 0], y=plane[:, 1], text=list(subject_ids), hovertemplate="%{text}<extra></extra>",
                           **common)]  # fmt: skip
    values = table[column]
    if _is_number(values) and values.nunique() > 6:
        numbers = np.asarray(values, dtype=np.float64)
        return [
            go.Scatter(
                x=plane[:, 0],
                y=plane[:, 1],
                text=list(subject_ids),
                customdata=numbers,
                name=column,
                showlegend=False,
                marker={"color": numbers, "colorscale": "Viridis", "showscale": True, "size": 9,
                        "colorbar": {"title": {"text": escape(column)}}},
                hovertemplate="%{text}: %{customdata:.4g}<extra></extra>",
                **common,
            )
        ]  # fmt: skip
    labels = _labels(values)
    traces = []
    for k, name in enumerate(sorted(set(labels))):
        rows = [i for i, label in enumerate(labels) if label == name]
        traces.append(
            go.Scatter(
                x=plane[rows, 0],
                y=plane[rows, 1],
                text=[subject_ids[i] for i in rows],
                name=f"{escape(column)} = {escape(name)}",
                showlegend=True,
                marker={"color": COLOURS[k % len(COLOURS)], "size": 9, "symbol": k // len(COLOURS)},
                hovertemplate="%{text}<extra>" + escape(name) + "</extra>",
                **common,
            )
        )
    return traces


def _static_map(plane: NDArray[np.float64], table: pd.DataFrame, columns: Sequence[str]) -> str:
    figure, canvases = _figure(max(1, len(columns)))
    for axes, column in zip(canvases, columns or [""], strict=True):
        if not column:
            axes.scatter(plane[:, 0], plane[:, 1], s=18, color=COLOURS[0])
        elif _is_number(table[column]) and table[column].nunique() > 6:
            dots = axes.scatter(plane[:, 0], plane[:, 1], s=18, c=np.asarray(table[column], dtype=np.float64))
            figure.colorbar(dots, ax=axes)
        else:
            labels = _labels(table[column])
            for k, name in enumerate(sorted(set(labels))):
                rows = [i for i, label in enumerate(labels) if label == name]
                axes.scatter(plane[rows, 0], plane[rows, 1], s=18, color=COLOURS[k % len(COLOURS)], label=name)
            axes.legend(fontsize=7, frameon=False)
        axes.set_title(column, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    return _as_html(figure, "subjects by their embeddings")


def _is_number(values: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values))


def _labels(values: pd.Series) -> list[str]:
    return ["not known" if pd.isna(v) else f"{v:g}" if isinstance(v, int | float) else str(v) for v in values]


def _colourable(values: pd.Series) -> bool:
    different = values.nunique()
    return bool(different > 1 and (_is_number(values) or different <= _MOST_CLASSES))


def _figure(count: int) -> tuple[Figure, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.2 * columns, 3.3 * rows), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(rows, columns, k + 1) for k in range(count)]


def _as_html(figure: Figure, alt: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return picture(buffer.getvalue(), alt)
