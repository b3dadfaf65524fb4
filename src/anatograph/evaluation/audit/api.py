"""Confounding audit of embeddings: what they encode of the patient and the scanner, and which targets share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.evaluation.alignment import align, group_numbers
from anatograph.evaluation.audit.columns import nuisances
from anatograph.evaluation.audit.directions import WithoutNuisance, answer_columns, correlation, label_columns
from anatograph.evaluation.audit.picture import draw_audit
from anatograph.evaluation.cross_validation import cross_validate, cross_validated_kernel, usable
from anatograph.evaluation.headline import headline
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.survival.outcome import is_survival, read_survival
from anatograph.evaluation.tables import write_tables
from anatograph.evaluation.targets import Target, read_target
from anatograph.execution.account import RunAccount
from anatograph.learning.model.pooling import Parts

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Audited:
    """What `audit` found and wrote."""

    table: pd.DataFrame
    """nuisance, column, task, n, metric, chance, linear, linear_low, linear_high, kernel, kernel_low, kernel_high,
    known: one row a column."""
    shared: pd.DataFrame
    """target, nuisance, column, labels, directions, metric, value, value_without, n: one row a target and column."""
    account: RunAccount
    """Settings, notes and outputs."""


def audit(
    embeddings: str | Path,
    cohort: str | Path,
    out: str | Path,
    columns: Sequence[str] = (),
    targets: Sequence[str] = (),
    folds: int = 5,
    group: str | None = None,
    seed: int = 0,
    include_flagged: bool = False,
    progress: Callable[[str], None] | None = None,
    exclude: Sequence[str] = (),
) -> Audited:
    """How well the embedding predicts age, sex, site, kernel, slice thickness, dose and breath, linearly and not.

    The columns are found by their names (`KINDS`), lung volume and slice distance also in the study's quality table;
    ``columns`` names others.  Each is cross-validated by the probe of `evaluate` and by ridge regression with a
    Gaussian kernel, with 95 % intervals over subjects or groups.

    For each of ``targets`` and each nuisance: ``labels``, how far the two columns are associated in the cohort;
    ``directions``, how far the two probes' out-of-fold answers do (canonical correlations, 0 to 1; NaN where the
    nuisance is not predicted better than chance); and the target's figure with and without the nuisance's linear effect
    on the features, removed inside the training folds.  Writes ``audit.csv``, ``audit_shared.csv`` and ``audit.png``.
    Subjects in ``exclude`` are left out.

    Raises:
        UserError: files that do not fit each other, or no column to audit.
    """
    settings = {
        "embeddings": str(embeddings),
        "cohort": str(cohort),
        "columns": list(columns),
        "targets": list(targets),
        "folds": folds,
        "group": group,
        "seed": seed,
        "include_flagged": include_flagged,
        "exclude": list(exclude),
    }
    with RunAccount("audit", settings, out) as account:
        data = align(embeddings, cohort, include_flagged, exclude=exclude)
        table, kinds = nuisances(data.table, Path(embeddings), columns)
        groups = group_numbers(table, group) if group else None
        work = _Work(data.features, groups, folds, seed, data.parts)
        wanted = [
            usable(read_survival(table, n) if is_survival(n, table.columns) else read_target(table, n), groups, folds)
            for n in targets
        ]
        notes = [*data.notes]
        found: dict[str, tuple[Target, Predictions, bool]] = {}
        rows = []
        for column, kind in kinds.items():
            try:
                target = usable(read_target(table, column), groups, folds)
                row, done, linear = work.nuisance(target)
            except UserError as error:
                notes.append(f"{column} ({kind}) was not audited: {error}")
                continue
            rows.append({"nuisance": kind, "column": column, **row})
            found[column] = (target, done, linear)
            if progress:
                progress(column)
        if not rows:
            raise UserError("No column could be audited. " + " ".join(notes))
        shared = [
            {"target": target.name, "nuisance": kinds[column], "column": column, **work.shared(target, *nuisance)}
            for target in wanted
            for column, nuisance in found.items()
            if column != target.name
        ]
        result = Audited(pd.DataFrame(rows), pd.DataFrame(shared), account)
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"audit.csv": result.table, "audit_shared.csv": result.shared if shared else None}
        for path in write_tables(folder, tables):
            account.output(path)
        account.output(draw_audit(result.table, result.shared, folder / "audit.png"))
        for note in dict.fromkeys([*notes, *(note for target, _, _ in found.values() for note in target.notes)]):
            account.note(note)
        account.result(audit=result.table.to_dict("records"), shared=shared)
    return result


@dataclass(frozen=True, eq=False)
class _Work:
    features: Array
    groups: NDArray[np.int64] | None
    folds: int
    seed: int
    parts: Parts
    _answers: dict[tuple[str, bytes], Predictions] = field(default_factory=dict)

    def answers(self, target: Target) -> Predictions:
        """A target's out-of-fold answers, once for each set of subjects."""
        key = target.name, target.rows.tobytes()
        if key not in self._answers:
            x, g = self.of(target)
            self._answers[key] = cross_validate(x, target, g, self.folds, self.seed, self.parts)
        return self._answers[key]

    def of(self, target: Target) -> tuple[Array, NDArray[np.int64] | None]:
        return self.features[target.rows], None if self.groups is None else self.groups[target.rows]

    def nuisance(self, target: Target) -> tuple[dict[str, object], Predictions, bool]:
        """A row of ``audit.csv``, the linear probe's out-of-fold answers, and whether they are better than chance."""
        x, g = self.of(target)
        done = cross_validate(x, target, g, self.folds, self.seed, self.parts)
        linear = headline(target, done, g, self.seed)
        kernel = headline(target, cross_validated_kernel(x, target, g, self.folds, self.seed), g, self.seed)
        row: dict[str, object] = {"task": target.task, "n": linear.n, "metric": linear.metric, "chance": linear.chance}
        for name, one in (("linear", linear), ("kernel", kernel)):
            row |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
        row |= {"known": linear.better_than_chance or kernel.better_than_chance}
        return row, done, linear.better_than_chance

    def shared(self, target: Target, nuisance: Target, done: Predictions, known: bool) -> dict[str, object]:
        """What a target and a nuisance have in common, over the subjects for whom both are known."""
        both = np.isin(target.rows, nuisance.rows)
        common = target if both.all() else target.keep(both, f"{nuisance.name} is not known for all")
        nothing = {"labels": float("nan"), "directions": float("nan"), "metric": "", "value": float("nan"),
                   "value_without": float("nan"), "n": len(common.rows)}  # fmt: skip
        try:
            common = usable(common, self.groups, self.folds)
        except UserError:
            return nothing
        place = np.searchsorted(nuisance.rows, common.rows)
        x, g = self.of(common)
        answers = self.answers(common)
        labels = label_columns(nuisance)
        without = WithoutNuisance(nuisance.rows, labels)
        removed = cross_validate(x, common, g, self.folds, self.seed, self.parts, without)
        before, after = (headline(common, one, g, self.seed, 2) for one in (answers, removed))
        directions = correlation(answer_columns(common, answers), answer_columns(nuisance, done)[place])
        return {
            "labels": correlation(label_columns(common), labels[place]),
            "directions": directions if known else float("nan"),
            "metric": before.metric,
            "value": before.value,
            "value_without": after.value,
            "n": before.n,
        }
