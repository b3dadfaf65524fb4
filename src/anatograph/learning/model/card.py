"""The README.md that travels with a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def model_card(config: Mapping[str, Any]) -> str:
    """A model card in Markdown from what ``config.json`` holds."""
    architecture, expected, atlas = config["architecture"], config["input"], config["atlas"]
    low, high = expected["hu_window"]
    side = expected["patch_size"][0]
    features = architecture["feature_size"]
    pooling = {
        "mean": "their mean",
        "zones": "their mean and those of thirds of each lung",
        "moments": "their mean and their moments along the three axes",
        "harmonics": f"their mean and {int(architecture.get('harmonics', 1)) - 1} harmonics of the atlas graph",
    }
    graph = "a graph network over neighbouring regions" if architecture["graph"] else "no graph network"
    lines = [
        "# Anatograph model",
        "",
        f"Encodes a chest CT as {features} features of each of {atlas['landmarks']} landmarks in the lungs: a patch "
        f"encoder conditioned on the location, and {graph}, trained by contrastive learning without labels (Sun, Yu, "
        "Batmanghelich, *Context Matters*, AAAI 2021). The patient's vector is "
        f"{pooling[architecture.get('subject_pooling', 'mean')]}.",
        "",
        "## Use",
        "",
        "```bash",
        "anatograph embed SCAN_OR_STUDY OUT.parquet --model THIS_FOLDER",
        "```",
        "",
        "## Expected input",
        "",
        "| | |",
        "|---|---|",
        f"| modality | {expected['modality']}, {expected['unit']} |",
        f"| spacing | {' × '.join(f'{value:g}' for value in expected['spacing_mm'])} mm |",
        f"| window | {low:g} to {high:g} HU, scaled to -1 to 1 |",
        f"| orientation | {expected['orientation']}, arrays {expected['array_order']} |",
        f"| patch | {side} × {side} × {side} voxels, centred on a landmark |",
        f"| atlas | {atlas['landmarks']} landmarks every {atlas['step_mm']:g} mm, hash `{atlas['hash']}` |",
        "",
        "`anatograph` converts a scan to this form, and refuses a study made with another atlas.",
        "",
        *_section("Preprocessing of the scans", config.get("preprocessing", {})),
        *_section("Training", config.get("training", {})),
        *_section("Architecture", architecture),
        "## Limits",
        "",
        "A research tool, not a medical device. An embedding is only as good as the scans it was trained on resemble "
        "yours: check it on your own data, with the subjects of training and test apart.",
        "",
        f"Written by anatograph {config['anatograph_version']}; weights SHA-256 `{config['weights_sha256']}`.",
        "",
    ]
    return "\n".join(lines)


def _section(title: str, values: Mapping[str, Any]) -> list[str]:
    if not values:
        return []
    rows = [f"| {name} | {str(value).replace('|', '/')} |" for name, value in values.items()]
    return [f"## {title}", "", "| setting | value |", "|---|---|", *rows, ""]
