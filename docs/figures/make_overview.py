"""The picture of the README: a phantom's CT, the landmarks and graph laid over it, and a heatmap.

    python docs/figures/make_overview.py STUDY EMBEDDINGS COHORT --target emphysema_extent --subject ID

Writes docs/images/overview.png, all of it from a study of phantoms (their scans still where they were) and what
`anatograph embed` made of it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

import anatograph
from anatograph.explanation.explain import explain
from anatograph.explanation.legend import MapLegend
from anatograph.explanation.map_picture import show_slice
from anatograph.imaging.resample import axis_aligned
from anatograph.imaging.views import CORONAL
from anatograph.imaging.volume import Mask, Volume
from anatograph.study.subject import StoredSubject

OUT = Path(__file__).resolve().parents[1] / "images" / "overview.png"
INK, PALE, NODE = "#0b1020", "#9fb3c8", "#7fd6ff"


def main() -> None:
    """Read, explain, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--target", default="emphysema_extent")
    parser.add_argument("--subject", required=True)
    parser.add_argument("--caption", default="emphysema", help="the target in a word")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()

    study = anatograph.Study.open(args.study)
    subject = study.subject(args.subject)
    lungs = subject.lungs()
    scan = axis_aligned(anatograph.read_volume(subject.about["source"]["path"]))
    with tempfile.TemporaryDirectory() as folder:
        done = explain(args.study, args.embeddings, args.cohort, args.target, args.subject, folder)
        turned = sitk.DICOMOrient(sitk.ReadImage(str(done.maps[0])), "LPS")
    heat = sitk.GetArrayFromImage(turned)
    words = MapLegend("probe", "", "", "for", "against", 0.5, (0.0, 1.0), {})
    place = strongest_coronal(heat, lungs)
    # The layer of the atlas's grid that lies nearest to the slice.
    depth = study.atlas.landmarks[:, 1]
    y = lungs.frame.origin[1] + place * lungs.frame.spacing[1]
    layers = {float(d): abs(float(np.median(subject.landmarks[depth == d, 1])) - y) for d in np.unique(depth)}
    layer = depth == min(layers, key=lambda d: layers[d])
    draw(scan, lungs, heat, words, subject, layer, place, args.caption, args.out)
    print(f"Picture: {args.out}")


def strongest_coronal(heat: NDArray[np.float32], lungs: Mask) -> int:
    """Row of the coronal slice that shows much lung and a map that says much."""
    area = lungs.lungs.sum(axis=(0, 2))
    says = (np.abs(heat - 0.5) * (heat > 0)).sum(axis=(0, 2))
    return int(np.where(area > 0.8 * area.max(), says, -1).argmax())


def draw(
    scan: Volume,
    lungs: Mask,
    heat: NDArray[np.float32],
    words: MapLegend,
    subject: StoredSubject,
    layer: NDArray[np.bool_],
    row: int,
    caption: str,
    out: Path,
) -> None:
    """Three panels side by side; ``layer`` (N,) are the landmarks to show bright, ``row`` the coronal slice."""
    box = lungs.box_lps()
    assert box is not None
    low, high = box[0] - 22, box[1] + 22
    width, height = high[0] - low[0], high[2] - low[2]
    panel = 4.0
    tall = panel * height / width + 1.05
    figure = Figure(figsize=(3 * panel + 0.5, tall), dpi=150, facecolor=INK)
    FigureCanvasAgg(figure)
    titles = (
        ("A chest CT", "lungs segmented, registered to the atlas"),
        ("Landmarks and graph", f"{int(subject.present.sum())} patches of 32 mm, the same in every subject"),
        ("Where the answer comes from", f"red: evidence for {caption}, blue: against"),
    )
    wide = 3 * panel + 0.5
    for k, (title, under) in enumerate(titles):
        axes = figure.add_axes(((0.1 + k * (panel + 0.15)) / wide, 0.12 / tall, panel / wide, (tall - 1.05) / tall))
        shown = heat if k == 2 else None
        show_slice(axes, shown, lungs, scan, words if k == 2 else None, CORONAL, row)
        if k == 1:
            axes.images[0].set_clim(-1300, 1400)
            add_graph(axes, subject, layer)
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[2], high[2])
        for x, side in ((0.03, "R"), (0.97, "L")):
            axes.text(x, 0.04, side, transform=axes.transAxes, color=PALE, fontsize=10, weight="bold", ha="center")
        left = (0.1 + k * (panel + 0.15)) / wide
        figure.text(left, 1 - 0.36 / tall, title, color="white", fontsize=14, weight="bold", va="center")
        figure.text(left, 1 - 0.68 / tall, under, color=PALE, fontsize=10, va="center")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, format="png", facecolor=INK, metadata={"Software": "anatograph"})


def add_graph(axes: Any, subject: StoredSubject, layer: NDArray[np.bool_]) -> None:
    """All edges faint, as seen from the front; those of the layer bright."""
    flat, present = subject.landmarks[:, [0, 2]], subject.present
    kept = subject.edges[present[subject.edges].all(axis=1)]
    close = layer[kept].all(axis=1)
    axes.add_collection(LineCollection(flat[kept[~close]], colors=NODE, linewidths=0.5, alpha=0.13, zorder=2))
    axes.add_collection(LineCollection(flat[kept[close]], colors=NODE, linewidths=1.3, alpha=0.85, zorder=3))
    axes.scatter(*flat[~layer & present].T, s=3, color=NODE, alpha=0.22, linewidths=0, zorder=2)
    axes.scatter(*flat[layer & present].T, s=26, color="white", edgecolors=NODE, linewidths=1.1, zorder=4)


if __name__ == "__main__":
    main()
