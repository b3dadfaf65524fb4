"""The README.md that travels with a model: a model card in Markdown, with the metadata that hubs of models read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_POOLING = {
    "mean": "their mean",
    "zones": "their mean and those of thirds of each lung",
    "moments": "their mean and their moments along the three axes",
}
_LEVELS = {"patch": "patches (eq. 5)", "graph": "subjects (eq. 8)"}
_USE = """Embeddings of chest CTs for research: probes of clinical variables, retrieval of similar scans, and maps of
unusual regions, on groups of scans. Not for a decision about a patient: it is not a medical device, and no regulator
has seen it. Not for other parts of the body, for MR, or for children, none of which it was made for."""
_LIMITS = """How good an embedding is depends on how closely the training scans resemble yours: check it on your own
data, with the subjects of training and test apart, before you trust a result. It knows the scanner, so where scanner
and outcome go together that is a confounder. The embedding of a scan that quality control rejects is meaningless."""
_PAPER = """@inproceedings{sun2021context,
  title     = {Context Matters: Graph-based Self-supervised Representation Learning for Medical Images},
  author    = {Sun, Li and Yu, Ke and Batmanghelich, Kayhan},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year      = {2021},
  url       = {https://arxiv.org/abs/2012.06457}
}"""


def model_card(config: Mapping[str, Any]) -> str:
    """A model card in Markdown from what ``config.json`` holds."""
    training = config.get("training", {})
    release = str(config.get("release") or "")
    sections = [
        _metadata(config, release),
        f"# {release or 'Anatograph model'}\n\n{_summary(config)}",
        _section("Use", _usage(release)),
        _section("Intended use", _USE),
        _section("Expected input", _input(config)),
        _section("Training data", _data(config, training)),
        _section("Recipe", _recipe(training)),
        _section("Loss", _curves(training.get("curves", {}))),
        _section("Results", _results(config.get("results", []))),
        _section("Limits", f"{_LIMITS}{_patients(training)}"),
        _section("Licence", _licence(config)),
        _section("Citation", f"```bibtex\n{_PAPER}\n```"),
        _section("Settings", _settings(config, training)),
        f"Written by anatograph {config['anatograph_version']}; weights SHA-256 `{config['weights_sha256']}`.",
    ]
    return "\n\n".join(text for text in sections if text) + "\n"


def _metadata(config: Mapping[str, Any], release: str) -> str:
    """The YAML block that hubs of models read."""
    lines = [
        "library_name: anatograph",
        "pipeline_tag: image-feature-extraction",
        "tags:",
        *(f"- {tag}" for tag in ("medical", "chest-ct", "self-supervised", "contrastive-learning", "graph")),
        f"license: {config.get('license') or 'other'}",
    ]
    return "\n".join(["---", *lines, *([f"model_name: {release}"] if release else []), "---"])


def _summary(config: Mapping[str, Any]) -> str:
    architecture, atlas = config["architecture"], config["atlas"]
    rule = architecture.get("subject_pooling", "mean")
    pooled = _POOLING.get(
        rule, f"their mean and {int(architecture.get('harmonics', 1)) - 1} harmonics of the atlas graph"
    )
    graph = "a graph network over neighbouring regions" if architecture["graph"] else "no graph network"
    return (
        f"Encodes a chest CT as {architecture['feature_size']} features of each of {atlas['landmarks']} landmarks in "
        f"the lungs: a patch encoder conditioned on the location, and {graph}, trained by contrastive learning without "
        f"labels (Sun, Yu, Batmanghelich, *Context Matters*, AAAI 2021). The subject's vector is {pooled}."
    )


def _usage(release: str) -> str:
    model = "" if release else " --model THIS_FOLDER"
    python = "" if release else ', model="THIS_FOLDER"'
    return (
        f"```bash\nanatograph embed SCAN_OR_COHORT_OR_STUDY OUT{model}\n```\n\n"
        f'```text\nimport anatograph\n\nanatograph.embed("scan.nii.gz"{python}).subject\n```'
    )


def _input(config: Mapping[str, Any]) -> str:
    expected, atlas = config["input"], config["atlas"]
    low, high = expected["hu_window"]
    side = expected["patch_size"][0]
    rows = {
        "modality": f"{expected['modality']}, {expected['unit']}",
        "spacing": f"{' × '.join(f'{value:g}' for value in expected['spacing_mm'])} mm",
        "window": f"{low:g} to {high:g} HU, scaled to -1 to 1",
        **_shown(expected),
        "orientation": f"{expected['orientation']}, arrays {expected['array_order']}",
        "patch": f"{side} × {side} × {side} voxels, centred on a landmark",
        "atlas": f"{atlas['landmarks']} landmarks every {atlas['step_mm']:g} mm, hash `{atlas['hash']}`",
    }
    return (
        f"{_table(('', ''), rows.items())}\n\n"
        "`anatograph` converts a scan to this form, and refuses a study made with another atlas."
    )


def _shown(expected: Mapping[str, Any]) -> dict[str, str]:
    """What is done to patches before the window, where anything is."""
    rows = {}
    if "outside_lungs_hu" in expected:
        rows["outside the lungs"] = f"{expected['outside_lungs_hu']:g} HU, by the lung mask"
    if inflation := expected.get("inflation"):
        rows["inflation"] = (
            f"1000 + HU times f ** {inflation['strength']:g}, where f takes the most frequent density of each lung to "
            f"{inflation['common_hu']:g} HU"
        )
    return rows


def _data(config: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    if not training.get("subjects"):
        return "Not recorded."
    known = str(training.get("data") or "scans that this card does not describe; say here which, and who consented")
    how = config.get("preprocessing", {})
    prepared = ", ".join(f"{name} {how[name]}" for name in ("lungs", "registration", "graph_rule") if name in how)
    return (
        f"{training['subjects']} subjects: {known}."
        + (f" Prepared with {prepared}." if prepared else "")
        + (f" Digest of the study: `{training['cohort']}`." if training.get("cohort") else "")
    )


def _patients(training: Mapping[str, Any]) -> str:
    return (
        "\n\n**It has seen no patient.** All training scans are synthetic; textures, artefacts and diseases that the "
        "generator does not draw are new to it."
        if training.get("synthetic")
        else ""
    )


def _recipe(training: Mapping[str, Any]) -> str:
    settings = training.get("settings", {})
    rows = {
        "updates": training.get("updates"),
        "epochs": training.get("epochs"),
        "optimiser": settings.get("optimiser"),
        "learning rate": settings.get("learning_rate"),
        "patches in a batch": settings.get("patch_batch"),
        "subjects in a batch of the graph level": settings.get("graph_batch"),
        "temperature": settings.get("temperature"),
        "seed": settings.get("seed"),
        "date": training.get("date"),
        "commit of anatograph": training.get("commit"),
        "command": training.get("command"),
    }
    return _table(("", ""), {name: value for name, value in rows.items() if value not in (None, "")}.items())


def _curves(curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Loss and contrastive accuracy along the run, in a table for each level."""
    rows = [
        (_LEVELS.get(level, level), f"{int(step)}", f"{loss:.3f}", f"{100 * accuracy:.0f} %")
        for level, points in curves.items()
        for step, loss, accuracy in points
    ]
    return _table(("level", "update", "InfoNCE loss", "contrastive accuracy"), rows)


def _results(results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return "None were recorded with this model; `anatograph evaluate` scores it on your own cohort."
    rows = [
        (
            one["on"],
            one["target"],
            one["metric"],
            f"{one['value']:.2f}",
            f"{one['low']:.2f} to {one['high']:.2f}",
            one["n"],
        )
        for one in results
    ]
    commands = sorted({str(one["command"]) for one in results if one.get("command")})
    how = "\n\nBy:\n\n```bash\n" + "\n".join(commands) + "\n```" if commands else ""
    return _table(("scans", "target", "metric", "value", "95 % interval", "subjects"), rows) + how


def _licence(config: Mapping[str, Any]) -> str:
    name = str(config.get("license") or "")
    name = {"apache-2.0": "Apache-2.0: free for any use"}.get(name, name)
    return (
        f"{name}."
        if name
        else "Not stated; it is for those who trained the model to choose, within the terms of its scans."
    )


def _settings(config: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """Every setting, folded away."""
    groups = {
        "preprocessing": config.get("preprocessing", {}),
        "training": training.get("settings", {}),
        "architecture": config["architecture"],
    }
    others = {
        name: value
        for name, value in training.items()
        if name not in ("settings", "curves", "data") and not isinstance(value, Mapping)
    }
    groups["training"] = {**others, **groups["training"]}
    rows = [(group, name, value) for group, values in groups.items() for name, value in _flat(values)]
    return f"<details><summary>All settings</summary>\n\n{_table(('part', 'setting', 'value'), rows)}\n\n</details>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Settings with those inside settings as ``outer.inner``; the architecture, which has a part of its own, apart."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += [] if name == "model" else _flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _table(head: Sequence[str], rows: Any) -> str:
    """A Markdown table; empty where there is no row."""
    cells = [[str(cell).replace("|", "/").replace("\n", " ") for cell in row] for row in rows]
    if not cells:
        return ""
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
