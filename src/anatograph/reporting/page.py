"""One self-contained page: input, quality, training, and what the embedding predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anatograph.anatomy.places import places
from anatograph.errors import UserError, counted
from anatograph.execution.account import RunAccount
from anatograph.execution.files import write_text
from anatograph.execution.progress import Progress
from anatograph.reporting import assets
from anatograph.reporting.cards import FIGURES, Card, cards
from anatograph.reporting.maps import find_maps
from anatograph.reporting.parts import Given, Made, left_out_yet_counted, parts_of, sections_of
from anatograph.reporting.privacy import discretion_of, reviewable, withheld_notices
from anatograph.reporting.sections.cases import cases
from anatograph.reporting.sections.flow import flow, steps_of
from anatograph.reporting.sections.methods import methods
from anatograph.reporting.sections.settings import settings as read_settings
from anatograph.reporting.sections.tables import read_json
from anatograph.reporting.viewers import Viewer, viewers
from anatograph.reporting.viewers import choose as choose_subjects
from anatograph.study.cohort import Cohort, read_cohort
from anatograph.study.quality.exclusion import excluded_ids, known_ids
from anatograph.study.quality.selection import choose, some
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
    evaluation: str | Path | Sequence[str | Path] | None = None,
    explanations: str | Path | Sequence[str | Path] | None = None,
    cohort: str | Path | None = None,
    benchmark: str | Path | None = None,
    densitometry: str | Path | None = None,
    subjects: Sequence[str] = (),
    title: str = "Study",
    identities: bool = False,
    most_bytes: float = MOST_BYTES,
    progress: bool = False,
    exclude: Sequence[str] = (),
) -> Path:
    """Write a page about a study that opens offline, and return it.

    Parts that are not given are left out.  ``cohort`` is the table to summarise and colour by; without it the one that
    the study was filled from, if it is still there.  ``evaluation`` is the folder of `evaluate`, or several with that
    of `audit` among them.  ``densitometry`` is the table of quantitative CT; without it ``densitometry.parquet`` in the
    study, beside the embeddings or in the folders of the evaluation.  ``explanations`` are folders with maps, and with
    the test-retest error that `change` measured; ``subjects`` are those whose scans the viewer holds, by default the
    first few that have maps.  Scans in ``exclude``, and those that were excluded when ``embeddings`` and ``evaluation``
    were made, stand in the flow of the scans and are left out of all sections but the quality cards.  The page holds no
    name, DICOM identifier, file path or date unless ``identities`` is set, and makes no network request.

    Raises:
        UserError: a part that is named but missing, or is something else, or an unknown scan in ``exclude``.
    """
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"The page {path} needs a name that ends in .html.")
    assets.require()
    whole = Study.open(study)
    made_with = Made.read(embeddings, _listed(evaluation))
    named = excluded_ids(exclude, known_ids(whole), f"the study {whole.path}") | made_with.excluded
    selection = choose(whole, made_with.include_flagged, named)
    opened = whole.without(selection.withdrawn)
    known = _cohort(opened, cohort)
    folders = [Path(folder) for folder in _listed(explanations)]
    maps = find_maps(folders, opened.subject_ids)
    given = Given.of(opened.path, run, embeddings, _listed(evaluation), folders, benchmark, densitometry)
    given = given.without(selection.withdrawn)
    chosen = choose_subjects(opened, subjects, maps)
    settings = {"study": str(study), "subjects": chosen, "identities": identities, "title": title,
                "exclude": list(exclude)}  # fmt: skip
    with (
        RunAccount("report", settings, path) as account,
        Progress("report", len(whole) + len(chosen), "subject", progress) as bar,
    ):
        discretion, columns, withheld = discretion_of(whole, known, identities)
        review, unreviewable = reviewable(whole, discretion)
        context = parts_of(opened, known, columns, discretion, given)
        embedded = None if given.vectors is None else len(set(given.vectors.subject_ids) & {*selection.subject_ids})
        steps = steps_of(whole, len(known.rows) if known else None, selection, embedded)
        context["flow"] = flow(steps, discretion)
        places_of = [Path(part) if part is not None else None for part in (run, embeddings, given.evaluation)]
        context["cases"] = cases(maps, tested.predictions, discretion) if (tested := context["evaluation"]) else []
        context["methods"] = methods(whole, selection, steps, discretion, *places_of)
        context["settings"] = read_settings(opened, Path(run) if run is not None else None, discretion)
        context |= {"review": review, "notices": []}
        bare = context | _frame(opened, known, [], [], title)
        left = (
            most_bytes - len(assets.render(bare | {"sections": sections_of(bare)})) - assets.viewer_bytes(bool(chosen))
        )
        images = {row.subject_id: row.image for row in known.rows} if known else {}
        with account.stage("viewers"):
            share = min(_MOST_FOR_VIEWERS, _VIEWERS_SHARE * left)
            shown, omitted = viewers(opened, chosen, maps, images, discretion, share, bar.step)
        with account.stage("cards"):
            left -= sum(viewer.size for viewer in shown)
            made, more = cards(whole, images, discretion, left, bar.step, selection)
        omitted = [*omitted, *more, *map(discretion.sentence, selection.notes)]
        if unreviewable:
            omitted.append(unreviewable)
        if counted_in := left_out_yet_counted(tested, selection.withdrawn):
            omitted.append(
                f"the evaluation counts {counted(len(counted_in), 'scan')} that this page leaves out "
                f"({discretion.sentence(some(counted_in))}); evaluate again with the same --exclude"
            )
        for sentence in omitted:
            account.note(sentence)
        context |= _frame(opened, known, made, shown, title)
        messages = [
            *omitted,
            *(f.reason for f in context["failures"]),
            *(text for card in made for text in card.reasons),
        ]
        notices = (*omitted, *withheld_notices(withheld, discretion, messages))
        context["notices"] = [f"{text[0].upper()}{text[1:]}." for text in notices]
        page = assets.render(context | {"sections": sections_of(context)})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, page)
        account.output(path)
        size = len(page.encode())
        account.result(megabytes=round(size / 1e6, 2), viewers=len(shown), sections=sections_of(context))
        if size > most_bytes:
            account.note(f"the page has {size / 1e6:.0f} MB, more than the limit of {most_bytes / 1e6:.0f} MB")
    return path


def _frame(
    study: Study,
    known: Cohort | None,
    made: Sequence[Card],
    shown: Sequence[Viewer],
    title: str,
) -> dict[str, Any]:
    """Title, overview, pictures and viewer."""
    failed = len(study.failures())
    overview = [
        (failed, "failed"),
        (sum(card.flagged for card in made), "to be checked"),
        (len(made), "scans preprocessed"),
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
        "viewer_data": _viewer_data(shown, study) if shown else {},
    }


def _viewer_data(shown: Sequence[Viewer], study: Study) -> dict[str, Any]:
    return {
        "regions": places(study.atlas),
        "reach": study.atlas.step,
        "subjects": [
            {
                "name": viewer.name,
                "middle": viewer.middle,
                "landmarks": viewer.landmarks,
                "maps": [
                    {
                        "name": one.file.name,
                        "palette": one.palette,
                        "ends": one.file.ends,
                        "neutral": one.file.neutral,
                        "peak": one.peak,
                        "withheld": bool(one.file.withheld),
                    }
                    for one in viewer.maps
                ],
            }
            for viewer in shown
        ],
    }


def _cohort(study: Study, cohort: str | Path | None) -> Cohort | None:
    """The table that is given, else the one that the study was filled from if it is still there."""
    if cohort is not None:
        return read_cohort(cohort)
    account = read_json(study.path / "preprocess.run.json") or {}
    try:
        return read_cohort(account["settings"]["cohort"])
    except (OSError, KeyError, TypeError, UserError):
        return None


def _listed(paths: str | Path | Sequence[str | Path] | None) -> list[str | Path]:
    if paths is None:
        return []
    return [paths] if isinstance(paths, str | Path) else list(paths)
