"""One self-contained page: what went in, what needs a look, how training went, and what the embedding tells."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from anatograph import __version__
from anatograph.analysis import report_charts as charts
from anatograph.analysis.embedding_file import read_embeddings
from anatograph.analysis.projection import project
from anatograph.errors import UserError
from anatograph.runlog import RunAccount
from anatograph.study.cohort import read_cohort
from anatograph.study.store import Study

MOST_PICTURES = 150
"""QC pictures shown; those that need a look come first."""
_NOT_SHOWN = ("subject_id", "image", "lungs")
_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;background:#fff;margin:0 auto;max-width:1120px;padding:1.5rem}
h1{font-size:1.7rem;margin:0 0 .2rem}h2{font-size:1.25rem;margin:2.2rem 0 .6rem;border-bottom:2px solid #0072B2}
table{border-collapse:collapse;margin:.6rem 0;font-size:.9rem}th,td{text-align:left;padding:.25rem .7rem;
border-bottom:1px solid #d8dee6;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}
th{background:#f2f5f8}img{max-width:100%;height:auto}figure{margin:0}figcaption{font-size:.85rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:1rem}
.card{border:1px solid #d8dee6;border-radius:6px;padding:.5rem}.look{border:2px solid #c00000}
.warn{color:#a00000;font-weight:600}.soft{color:#5a6675}.key{display:flex;gap:2rem;flex-wrap:wrap}
.key div{background:#f2f5f8;border-radius:6px;padding:.5rem 1rem}.key b{display:block;font-size:1.4rem}
nav a{margin-right:1rem}details{margin:.5rem 0}
pre{white-space:pre-wrap;font-size:.8rem;background:#f2f5f8;padding:.7rem}
@media print{.card,figure{break-inside:avoid}nav{display:none}}
"""


def report(
    study: str | Path,
    out: str | Path,
    run: str | Path | None = None,
    embeddings: str | Path | None = None,
    evaluation: str | Path | None = None,
    explanations: str | Path | None = None,
    cohort: str | Path | None = None,
) -> Path:
    """Write a page about a study that opens offline, and return it.

    Parts that are not given are left out.  ``cohort`` is the table to summarise and colour by; without it the one
    that the study was filled from, if it is still there.  The page holds no file path, and no name but the
    ``subject_id``.  With Plotly installed the map of subjects is interactive.

    Raises:
        UserError: a part that is named and not there, or is something else.
    """
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"The page {path} needs a name that ends in .html.")
    opened = Study.open(study)
    table = _cohort_table(opened, cohort)
    sections: list[tuple[str, str]] = [("Overview", _overview(opened, table))]
    sections.append(("Failures and flags", _failures(opened)))
    if table is not None:
        sections.append(("Cohort", _cohort(table)))
    if run is not None:
        sections.append(("Pretraining", _training(Path(run))))
    needs_plotly = False
    if embeddings is not None:
        body, needs_plotly = _map(embeddings, table, evaluation)
        sections.append(("Map of subjects", body))
    if evaluation is not None:
        sections.append(("Evaluation", _evaluation(Path(evaluation))))
    if explanations is not None:
        sections.append(("Explanations", _explanations(Path(explanations))))
    sections.append(("Quality control", _pictures(opened)))
    sections.append(("Settings and versions", _settings(opened, run)))
    page = _page(opened.path.resolve().name, sections, charts.plotly_script() if needs_plotly else "")
    with RunAccount("report", {"study": str(study)}, path) as account:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
        account.output(path)
        account.result(megabytes=round(len(page) / 1e6, 2), sections=[title for title, _ in sections])
    return path


def _page(name: str, sections: Sequence[tuple[str, str]], script: str) -> str:
    anchors = [title.lower().replace(" ", "-") for title, _ in sections]
    links = "".join(f'<a href="#{a}">{escape(t)}</a>' for a, (t, _) in zip(anchors, sections, strict=True))
    bodies = "".join(
        f'<section id="{a}"><h2>{escape(t)}</h2>{body}</section>'
        for a, (t, body) in zip(anchors, sections, strict=True)
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(name)} - Anatograph</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style>{script}</head><body><header><h1>{escape(name)}</h1>"
        f'<p class="soft">Anatograph {__version__}</p><nav aria-label="sections">{links}</nav></header>'
        f"<main>{bodies}</main></body></html>\n"
    )


def _cohort_table(study: Study, cohort: str | Path | None) -> pd.DataFrame | None:
    if cohort is not None:
        return read_cohort(cohort).table
    account = study.path / "preprocess.run.json"
    try:
        known = json.loads(account.read_text(encoding="utf-8"))["settings"]["cohort"]
        return read_cohort(known).table
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None


def _overview(study: Study, table: pd.DataFrame | None) -> str:
    ids = study.subject_ids
    flagged = sum(bool(study.subject(name).flags) for name in ids)
    failed = len(study.failures())
    figures = [
        (len(ids), "subjects preprocessed"),
        (failed, "failed"),
        (flagged, "need a look"),
        (len(study.atlas), "landmarks"),
    ]
    if table is not None:
        figures.insert(0, (len(table), "in the cohort table"))
    return '<div class="key">' + "".join(f"<div><b>{n}</b>{escape(text)}</div>" for n, text in figures) + "</div>"


def _failures(study: Study) -> str:
    failures = study.failures()
    parts = []
    if failures:
        rows = [[f.subject_id, f.stage, f.reason] for f in failures]
        parts.append('<p class="warn">These subjects are not in the study:</p>')
        parts.append(_table(["subject", "stage", "reason"], rows))
    else:
        parts.append("<p>No subject failed.</p>")
    flagged = [(name, study.subject(name).flags) for name in study.subject_ids]
    rows = [[name, "; ".join(flags)] for name, flags in flagged if flags]
    if rows:
        parts.append("<p>These subjects are in the study, but a person should look at their pictures below:</p>")
        parts.append(_table(["subject", "why"], rows))
    else:
        parts.append("<p>No subject was flagged.</p>")
    return "".join(parts)


def _cohort(table: pd.DataFrame) -> str:
    rows = []
    for name in table.columns:
        if name in _NOT_SHOWN or str(name).endswith("_mask"):
            continue
        values = table[name].dropna()
        missing = len(table) - len(values)
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values) and values.nunique() > 6:
            low, middle, high = values.quantile([0.25, 0.5, 0.75])
            text = f"median {middle:.4g}, middle half {low:.4g} to {high:.4g}, {values.min():.4g} to {values.max():.4g}"
        else:
            counts = values.value_counts()
            text = ", ".join(f"{value}: {count}" for value, count in counts.head(8).items())
            text += f", {len(counts) - 8} more" if len(counts) > 8 else ""
        rows.append([str(name), text or "empty", str(missing) if missing else ""])
    return _table(["column", "values", "missing"], rows)


def _training(run: Path) -> str:
    path = run / "metrics.csv"
    if not path.is_file():
        raise UserError(f"{run} holds no metrics.csv, so it is no run of `anatograph pretrain`.")
    metrics = pd.read_csv(path)
    parts = [charts.training_curves(metrics) or "<p>No figures were recorded yet.</p>"]
    account = _json(run / "pretrain.run.json")
    if account:
        done = account.get("results", {})
        told = [
            f"{done[key]} {text}" for key, text in (("updates", "updates"), ("subjects", "subjects")) if key in done
        ]
        told.append(f"{float(account.get('seconds', 0)) / 60:.1f} minutes")
        parts.append(f"<p>{escape(', '.join(told))}.</p>")
        if done.get("collapsed"):
            parts.append('<p class="warn">The embedding collapsed in this run; do not use it.</p>')
    return "".join(parts)


def _map(embeddings: str | Path, table: pd.DataFrame | None, evaluation: str | Path | None) -> tuple[str, bool]:
    known = read_embeddings(embeddings)
    if len(known.subject_ids) < 3:
        return "<p>A map needs at least 3 subjects.</p>", False
    plane, method = project(known.features)
    if table is None:
        rows = pd.DataFrame(index=known.subject_ids)
    else:
        rows = table.drop_duplicates("subject_id").set_index("subject_id").reindex(known.subject_ids)
    columns = [str(c) for c in rows.columns if c not in _NOT_SHOWN and not str(c).endswith("_mask")]
    if evaluation is not None and (Path(evaluation) / "results.csv").is_file():
        first = pd.read_csv(Path(evaluation) / "results.csv")["target"].drop_duplicates().astype("str").tolist()
        columns = [c for c in first if c in columns] + [c for c in columns if c not in first]
    body, needs_plotly = charts.subject_map(plane, known.subject_ids, rows, columns)
    how = "Each dot is a subject. " + ("Choose what to colour by above the map. " if needs_plotly else "")
    return f'<p class="soft">{how}{escape(method)}.</p>{body}', needs_plotly


def _evaluation(folder: Path) -> str:
    path = folder / "results.csv"
    if not path.is_file():
        raise UserError(f"{folder} holds no results.csv, so it is nothing that `anatograph evaluate` wrote.")
    results = pd.read_csv(path)
    rows = [
        [str(r.target), str(r.metric), _number(r.mean), _number(r.std), str(r.folds), str(r.n)]
        for r in results.itertuples()
    ]
    parts = [
        "<p>Each person is predicted by a linear probe fitted without them. R² of 0 is what the mean alone reaches, "
        "below 0 is worse; AUC and balanced accuracy are at chance at 0.5 and 1 / classes.</p>",
        _table(["target", "metric", "mean", "standard deviation", "folds", "people"], rows),
    ]
    people = int(results["n"].min())
    if people < 50:
        parts.append(f'<p class="warn">Only {people} people: these figures vary widely from sample to sample.</p>')
    chance = folder / "permutations.csv"
    if chance.is_file():
        shuffled = pd.read_csv(chance)
        rows = [
            [str(r.target), str(r.metric), _number(r.observed), _number(r.chance_mean), _number(r.p)]
            for r in shuffled.itertuples()
        ]
        parts.append("<p>With shuffled targets:</p>")
        parts.append(_table(["target", "metric", "observed", "by chance", "p"], rows))
    if (folder / "predictions.parquet").is_file():
        parts.append(charts.truth_against_prediction(pd.read_parquet(folder / "predictions.parquet")))
    notes = (_json(folder / "evaluate.run.json") or {}).get("notes", [])
    parts += [f'<p class="soft">{escape(str(note))}.</p>' for note in notes]
    return "".join(parts)


def _explanations(folder: Path) -> str:
    pictures = sorted(folder.glob("*.png"))
    if not pictures:
        raise UserError(f"{folder} holds no pictures, so it is nothing that `anatograph explain` wrote.")
    shown = "".join(
        f'<figure class="card">{charts.thumbnail(path, 1300, f"heatmap {path.stem}")}'
        f"<figcaption>{escape(path.stem)}</figcaption></figure>"
        for path in pictures[:MOST_PICTURES]
    )
    more = f"<p>{len(pictures) - MOST_PICTURES} more are not shown.</p>" if len(pictures) > MOST_PICTURES else ""
    return (
        "<p>Red regions speak for what the colour bar names, blue ones against it. A probe fitted on the other "
        f"subjects says so; it is no outline of disease.</p>{shown}{more}"
    )


def _pictures(study: Study) -> str:
    ids = study.subject_ids
    flags = {name: study.subject(name).flags for name in ids}
    ordered = sorted(ids, key=lambda name: (not flags[name], name))
    cards = []
    for name in ordered[:MOST_PICTURES]:
        path = study.subject(name).picture
        if not path.is_file():
            continue
        told = f'<span class="warn">{escape("; ".join(flags[name]))}</span>' if flags[name] else ""
        cards.append(
            f'<figure class="card{" look" if flags[name] else ""}">{charts.thumbnail(path, 760, f"lungs of {name}")}'
            f"<figcaption><b>{escape(name)}</b> {told}</figcaption></figure>"
        )
    more = len(ordered) - MOST_PICTURES
    note = f"<p>{more} more are not shown; none of them comes before these in need of a look.</p>" if more > 0 else ""
    return (
        '<p class="soft">Yellow: lung mask. Blue: the mapped atlas. Pink: landmarks. Those to look at come first.</p>'
        f'<div class="grid">{"".join(cards)}</div>{note}'
    )


def _settings(study: Study, run: str | Path | None) -> str:
    shown: dict[str, Any] = {"atlas hash": study.atlas.hash, "preprocessing": study.settings.as_dict()}
    account = _json(study.path / "preprocess.run.json")
    if account:
        shown["versions"] = {k: v for k, v in account.get("versions", {}).items() if k != "platform"}
    if run is not None:
        settings = _json(Path(run) / "settings.json") or {}
        shown["pretraining"] = {key: value for key, value in settings.items() if key != "probe_table"}
    return f"<details><summary>Show</summary><pre>{escape(json.dumps(shown, indent=2))}</pre></details>"


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _number(value: Any) -> str:
    number = float(value)
    return f"{number:.3f}" if number == number else "–"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    body = "".join("<tr>" + "".join(_cell(text) for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    plain = text.replace(".", "").replace("-", "").isdigit()
    return f'<td class="n">{escape(text)}</td>' if plain else f"<td>{escape(text)}</td>"
