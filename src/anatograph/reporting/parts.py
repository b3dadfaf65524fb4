"""What the sections of the page are made of, beside pictures and the viewer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anatograph._version import __version__
from anatograph.embedding.table import Embeddings, parquet_path, read_embeddings
from anatograph.execution.account import RunAccount
from anatograph.reporting.cards import failures
from anatograph.reporting.redaction import Discretion
from anatograph.reporting.sections.benchmark import benchmark as read_benchmark
from anatograph.reporting.sections.densitometry import densitometry as read_densitometry
from anatograph.reporting.sections.densitometry import find_densitometry
from anatograph.reporting.sections.evaluation import EvaluationSection
from anatograph.reporting.sections.evaluation import evaluation as read_evaluation
from anatograph.reporting.sections.repeats import repeats as read_repeats
from anatograph.reporting.sections.tables import read_json
from anatograph.reporting.sections.training import training as read_training
from anatograph.reporting.subjects import subject_map, summarise
from anatograph.study.cohort import Cohort
from anatograph.study.store import Study


@dataclass(frozen=True)
class Given:
    """Where results lie that the page shows; what is not given or not found is None or empty."""

    run: Path | None
    """Folder of a pretraining."""
    vectors: Embeddings | None
    """Embeddings of the study."""
    evaluation: Path | None
    """Folder with ``results.csv`` of `evaluate`."""
    further: tuple[Path, ...]
    """Other folders with tables of further analyses."""
    explanations: tuple[Path, ...]
    """Folders with maps."""
    benchmark: Path | None
    """Folder of a benchmark."""
    densitometry: Path | None
    """Table of quantitative CT."""
    densitometry_named: bool
    """Whether it was named, and not found."""

    @classmethod
    def of(
        cls,
        study: Path,
        run: str | Path | None,
        embeddings: str | Path | None,
        evaluation: Sequence[str | Path],
        explanations: Sequence[Path],
        benchmark: str | Path | None,
        densitometry: str | Path | None,
    ) -> Given:
        """Read the embeddings, and find what is not named.

        Raises:
            UserError: a part that is named but missing, or is something else.
        """
        folders = [Path(one) for one in evaluation]
        tested = next((one for one in folders if (one / "results.csv").is_file()), next(iter(folders), None))
        beside = [Path(embeddings).parent] if embeddings is not None else []
        return cls(
            None if run is None else Path(run),
            None if embeddings is None else read_embeddings(embeddings),
            tested,
            tuple(one for one in folders if one != tested),
            tuple(explanations),
            None if benchmark is None else Path(benchmark),
            find_densitometry(densitometry, [study, *folders, *beside]),
            densitometry is not None,
        )

    def without(self, subject_ids: Collection[str]) -> Given:
        """The same, without the embeddings of these subjects."""
        vectors = self.vectors
        if vectors is None or not (left_out := set(subject_ids) & set(vectors.subject_ids)):
            return self
        kept = [name for name in vectors.subject_ids if name not in left_out]
        return replace(self, vectors=replace(vectors, subject_ids=kept, features=vectors.only(kept)))


def left_out_yet_counted(evaluation: EvaluationSection | None, withdrawn: Collection[str]) -> list[str]:
    """Scans that the page leaves out and whose predictions the evaluation nevertheless counts."""
    if evaluation is None or evaluation.predictions is None:
        return []
    return sorted(set(evaluation.predictions["subject_id"].astype(str)) & set(withdrawn))


@dataclass(frozen=True)
class Made:
    """Which scans the results on the page were made with, by their accounts."""

    excluded: frozenset[str]
    """Scans that the user excluded when the embeddings or the evaluation were made."""
    include_flagged: bool
    """Whether the embeddings hold scans that quality control rejects, on request."""

    @classmethod
    def read(cls, embeddings: str | Path | None, evaluation: Sequence[str | Path]) -> Made:
        """From the accounts beside the results; nothing is excluded where there is none."""
        accounts = [Path(folder) / "evaluate.run.json" for folder in evaluation]
        vectors = None if embeddings is None else RunAccount("embed", {}, parquet_path(embeddings)).path
        said = [_settings(path) for path in (*accounts, vectors) if path is not None]
        named = [one.get("exclude", []) for one in said]
        found = frozenset(str(name) for names in named if isinstance(names, list) for name in names)
        return cls(found, vectors is not None and bool(said[-1].get("include_flagged")))


def _settings(account: Path) -> dict[str, Any]:
    settings = (read_json(account) or {}).get("settings")
    return settings if isinstance(settings, dict) else {}


def parts_of(
    study: Study, known: Cohort | None, columns: Sequence[str], discretion: Discretion, given: Given
) -> dict[str, Any]:
    """The templates' variables; ``columns`` of the cohort may be shown."""
    table = known.table if known else None
    compared = read_benchmark(given.benchmark) if given.benchmark is not None else None
    rivals = compared.results if compared else None
    tested = None
    if given.evaluation is not None:
        tested = read_evaluation(given.evaluation, discretion, rivals, given.further)
    first = list(dict.fromkeys(row[0] for row in tested.scores.rows)) if tested else []
    ordered = [name for name in first if name in columns] + [name for name in columns if name not in first]
    plane = subject_map(given.vectors, table, ordered, discretion) if given.vectors is not None else None
    trained = read_training(given.run) if given.run is not None else None
    repeated = read_repeats([*given.explanations, *([given.evaluation] if given.evaluation else []), *given.further])
    measured = None
    if given.densitometry is not None:
        measured = read_densitometry(
            given.densitometry, study.subject_ids, table, columns, discretion, given.densitometry_named
        )
    return {
        "version": __version__,
        "failures": failures(study, discretion),
        "cohort": summarise(table, columns) if table is not None else None,
        "densitometry": measured,
        "training": trained,
        "plots": bool(plane or trained or tested or compared or measured or repeated),
        "subject_map_given": given.vectors is not None,
        "subject_map": plane,
        "evaluation": tested,
        "benchmark": compared,
        "repeats": repeated,
    }


def sections_of(context: dict[str, Any]) -> list[tuple[str, str]]:
    """Anchor and name of each section that the page has."""
    parts = [
        ("overview", "Overview", True),
        ("quality", "Quality", True),
        ("cohort", "Cohort", context["cohort"]),
        ("densitometry", "Densitometry", context["densitometry"]),
        ("training", "Pretraining", context["training"]),
        ("map", "Map of subjects", context["subject_map_given"]),
        ("evaluation", "Evaluation", context["evaluation"]),
        ("benchmark", "Benchmark", context["benchmark"]),
        ("repeats", "Test–retest", context["repeats"]),
        ("viewer", "Viewer", context["viewers"]),
        ("methods", "Methods", True),
        ("settings", "Settings", True),
    ]
    return [(anchor, name) for anchor, name, there in parts if there]
