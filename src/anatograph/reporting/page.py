"""One self-contained page: input, quality, training, and what the embedding predicts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anatograph._version import __version__
from anatograph.embedding.table import read_embeddings
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.execution.files import write_text
from anatograph.execution.progress import Progress
from anatograph.reporting import assets
from anatograph.reporting.cards import FIGURES, Card, cards, failures
from anatograph.reporting.maps import find_maps
from anatograph.reporting.redaction import Discretion, known_secrets
from anatograph.reporting.sections import benchmark as read_benchmark
from anatograph.reporting.sections import evaluation as read_evaluation
from anatograph.reporting.sections import read_json
from anatograph.reporting.sections import training as read_training
from anatograph.reporting.subjects import subject_map, summarise
from anatograph.reporting.viewers import Viewer, choose, viewers
from anatograph.study.cohort import Cohort, read_cohort
from anatograph.study.quality.selection import Selection, select
from anatograph.study.store import Study

MOST_BYTES = 28e6
"""Size the page is kept below, by smaller pictures and coarser volumes, and by leaving out what does not fit."""
_VIEWERS_SHARE = 0.55
"""Of what the scripts and tables leave, at most this much goes to the viewer's volumes."""
_MOST_FOR_VIEWERS = 12e6


def report(
    study: str | Path,
    out: str | Path,
    run: str | Path | None = None,
    embeddings: str | Path | None = None,
    evaluation: str | Path | None = None,
    explanations: str | Path | Sequence[str | Path] | None = None,
    cohort: str | Path | None = None,
    benchmark: str | Path | None = None,
    subjects: Sequence[str] = (),
    title: str = "Study",
    identities: bool = False,
    most_bytes: float = MOST_BYTES,
    progress: bool = False,
) -> Path:
    """Write a page about a study that opens offline, and return it.

    Parts that are not given are left out.  ``cohort`` is the table to summarise and colour by; without it the one
    that the study was filled from, if it is still there.  ``explanations`` are folders with maps; ``subjects`` are
    those whose scans the viewer holds, by default the first few that have maps.  The page holds no name, DICOM
    identifier, file path or date unless ``identities`` is set, and makes no network request.

    Raises:
        UserError: a part that is named but missing, or is something else.
    """
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"The page {path} needs a name that ends in .html.")
    assets.require()
    opened, selection = _reviewed(Study.open(study))
    known = _cohort(opened, cohort)
    folders = [Path(folder) for folder in _listed(explanations)]
    maps = find_maps(folders, opened.subject_ids)
    chosen = choose(opened, subjects, maps)
    settings = {"study": str(study), "subjects": chosen, "identities": identities, "title": title}
    with (
        RunAccount("report", settings, path) as account,
        Progress("report", len(opened) + len(chosen), "subject", progress) as bar,
    ):
        discretion, columns, withheld = _discretion(opened, known, identities)
        context = _parts(opened, known, columns, discretion, run, embeddings, evaluation, benchmark)
        left = most_bytes - _scripts(context["plots"], bool(chosen)) - len(json.dumps(context, default=str))
        images = {row.subject_id: row.image for row in known.rows} if known else {}
        with account.stage("viewers"):
            share = min(_MOST_FOR_VIEWERS, _VIEWERS_SHARE * left)
            shown, omitted = viewers(opened, chosen, maps, images, discretion, share, bar.step)
        with account.stage("montage"):
            left -= sum(viewer.size for viewer in shown)
            made, more = cards(opened, images, discretion, left, bar.step)
        omitted = [*omitted, *more, *selection.notes]
        for sentence in omitted:
            account.note(sentence)
        context |= _frame(opened, known, made, shown, discretion, title)
        context["notices"] = [f"{text[0].upper()}{text[1:]}." for text in (*omitted, *_withheld(withheld, discretion))]
        context["settings"] = _settings(opened, run, discretion)
        page = assets.render(context | {"sections": _sections(context)})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, page)
        account.output(path)
        size = len(page.encode())
        account.result(megabytes=round(size / 1e6, 2), viewers=len(shown), sections=_sections(context))
        if size > most_bytes:
            account.note(f"the page has {size / 1e6:.0f} MB, more than the limit of {most_bytes / 1e6:.0f} MB")
    return path


def _parts(
    study: Study,
    known: Cohort | None,
    columns: Sequence[str],
    discretion: Discretion,
    run: str | Path | None,
    embeddings: str | Path | None,
    evaluation: str | Path | None,
    benchmark: str | Path | None,
) -> dict[str, Any]:
    """What the sections beside pictures and viewer are made of."""
    table = known.table if known else None
    tested = read_evaluation(Path(evaluation), discretion) if evaluation is not None else None
    first = list(dict.fromkeys(row[0] for row in tested.scores.rows)) if tested else []
    ordered = [name for name in first if name in columns] + [name for name in columns if name not in first]
    plane = None
    if embeddings is not None:
        plane = subject_map(read_embeddings(embeddings), table, ordered, discretion)
    trained = read_training(Path(run)) if run is not None else None
    return {
        "version": __version__,
        "failures": failures(study, discretion),
        "cohort": summarise(table, columns) if table is not None else None,
        "training": trained,
        "plots": bool(plane or (trained and trained.curves) or (tested and tested.scatter)),
        "subject_map_given": embeddings is not None,
        "subject_map": plane,
        "evaluation": tested,
        "benchmark": read_benchmark(Path(benchmark)) if benchmark is not None else None,
    }


def _frame(
    study: Study,
    known: Cohort | None,
    made: Sequence[Card],
    shown: Sequence[Viewer],
    discretion: Discretion,
    title: str,
) -> dict[str, Any]:
    """Title, overview, pictures and viewer."""
    failed = len(study.failures())
    overview = [
        (failed, "failed"),
        (sum(bool(card.flags) for card in made), "need a look"),
        (len(made), "subjects preprocessed"),
        (len(study.atlas), "landmarks"),
    ]
    if known is not None:
        overview.insert(2, (len(known.rows), "in the cohort table"))
    return {
        "title": title,
        "overview": overview,
        "cards": made,
        "figures": FIGURES,
        "viewers": shown,
        "viewer_data": _viewer_data(shown),
        "gaps": study.atlas.step > study.atlas.patch_size,
    }


def _viewer_data(shown: Sequence[Viewer]) -> dict[str, Any]:
    return {
        "subjects": [
            {
                "name": viewer.name,
                "middle": viewer.middle,
                "maps": [
                    {
                        "name": one.file.name,
                        "palette": one.palette,
                        "ends": one.file.ends,
                        "neutral": one.file.neutral,
                        "peak": one.peak,
                    }
                    for one in viewer.maps
                ],
            }
            for viewer in shown
        ],
    }


def _sections(context: dict[str, Any]) -> list[tuple[str, str]]:
    parts = [
        ("overview", "Overview", True),
        ("quality", "Quality", True),
        ("cohort", "Cohort", context["cohort"]),
        ("training", "Pretraining", context["training"]),
        ("map", "Map of subjects", context["subject_map_given"]),
        ("evaluation", "Evaluation", context["evaluation"]),
        ("benchmark", "Benchmark", context["benchmark"]),
        ("viewer", "Viewer", context["viewers"]),
        ("settings", "Settings", True),
    ]
    return [(anchor, name) for anchor, name, there in parts if there]


def _cohort(study: Study, cohort: str | Path | None) -> Cohort | None:
    """The table that is given, else the one that the study was filled from if it is still there."""
    if cohort is not None:
        return read_cohort(cohort)
    account = read_json(study.path / "preprocess.run.json") or {}
    try:
        return read_cohort(account["settings"]["cohort"])
    except (OSError, KeyError, TypeError, UserError):
        return None


def _reviewed(study: Study) -> tuple[Study, Selection]:
    """The study without the scans that the reader excludes; rejected ones are shown, and counted."""
    selection = select(study)
    return study.without(selection.excluded), selection


def _discretion(study: Study, known: Cohort | None, identities: bool) -> tuple[Discretion, list[str], dict[str, str]]:
    """What may be shown, which columns of the table, and which not for what reason."""
    every_subject = dict.fromkeys(study.subject_ids)
    every_subject |= dict.fromkeys(failure.subject_id for failure in study.failures())
    paths: list[str] = [str(study.path), str(study.path.resolve())]
    for name in study.subject_ids:
        source = study.subject(name).about.get("source", {})
        paths += [str(source.get("path", "")), str(source.get("lungs", ""))]
    if known is not None:
        every_subject |= dict.fromkeys(known.subject_ids)
        paths.append(str(known.path))
        for row in known.rows:
            paths += [str(row.image), str(row.lungs or "")]
        for column in ("image", "lungs"):
            if column in known.table:
                paths += [str(value) for value in known.table[column].dropna()]
    plain = Discretion(identities, known_secrets(paths, every_subject), tuple(every_subject))
    if known is None:
        return plain, [], {}
    columns, withheld = plain.columns(known.table)
    words = frozenset(columns) | _classes(known.table, columns)
    return Discretion(identities, plain.secrets, plain.subject_ids, words), columns, withheld


def _classes(table: pd.DataFrame, columns: Iterable[str]) -> frozenset[str]:
    """Names of the classes in the columns that are shown."""
    texts = [name for name in columns if not pd.api.types.is_numeric_dtype(table[name])]
    return frozenset(str(value) for name in texts for value in table[name].dropna().unique())


def _withheld(withheld: dict[str, str], discretion: Discretion) -> list[str]:
    """What is withheld from the page for privacy."""
    notices = []
    if withheld:
        reasons = ", ".join(f"{name} ({reason})" for name, reason in withheld.items())
        notices.append(f"columns that may identify a patient are withheld: {reasons}; --identities shows them")
    if discretion.renamed:
        notices.append(
            f"{discretion.renamed} subjects are called by their place in the study, as their names hold a date, an "
            "identifier or a path; --identities shows them"
        )
    return notices


def _settings(study: Study, run: str | Path | None, discretion: Discretion) -> str:
    shown: dict[str, Any] = {"atlas hash": study.atlas.hash, "preprocessing": study.settings.to_dict()}
    account = read_json(study.path / "preprocess.run.json")
    if account:
        shown["versions"] = {k: v for k, v in account.get("versions", {}).items() if k != "platform"}
    if run is not None:
        settings = read_json(Path(run) / "settings.json") or {}
        shown["pretraining"] = {key: value for key, value in settings.items() if key != "probe_table"}
    if not discretion.identities:
        shown = {part: _without_paths(values) if isinstance(values, dict) else values for part, values in shown.items()}
    return json.dumps(shown, indent=2)


def _without_paths(values: dict[str, Any]) -> dict[str, Any]:
    return {key: "[withheld]" if isinstance(v, str) and ("/" in v or "\\" in v) else v for key, v in values.items()}


def _scripts(plots: bool, viewer: bool) -> int:
    names = ["report.css", "plots.js", "subjects.js", *(["viewer.js", "niivue/niivue.umd.js"] if viewer else [])]
    return (len(assets.plotly()) if plots else 0) + sum(len(assets.static(name)) for name in names)


def _listed(paths: str | Path | Sequence[str | Path] | None) -> list[str | Path]:
    if paths is None:
        return []
    return [paths] if isinstance(paths, str | Path) else list(paths)
