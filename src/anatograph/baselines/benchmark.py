"""Every row of the paper's tables on one cohort: the same subjects, folds, probes and report."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pandas as pd

from anatograph.baselines.design import CrossValidation, make_design
from anatograph.baselines.floors import FLOORS
from anatograph.baselines.floors.covariates import Covariates, chosen_covariates
from anatograph.baselines.floors.majority import Majority
from anatograph.baselines.method import CohortMethod, Method, Scans
from anatograph.baselines.options import MethodOptions
from anatograph.baselines.provenance import check_inputs, inputs_of, pretraining_note
from anatograph.baselines.region_rows import RegionTruth, read_truth, run_patch_density, run_regions
from anatograph.baselines.registry import METHODS, external_rows, make_method
from anatograph.baselines.report_files import Reporter
from anatograph.baselines.row_runner import RowRunner, Say, embedded
from anatograph.baselines.row_store import RowStore
from anatograph.choices import BenchmarkPreset, Device, Task
from anatograph.errors import UserError
from anatograph.evaluation.cross_validation import check_request
from anatograph.execution.account import RunAccount
from anatograph.execution.folders import claim_folder
from anatograph.study.cohort import read_cohort
from anatograph.study.quality.selection import usable
from anatograph.study.store import Study

PRESETS = get_args(BenchmarkPreset)


@dataclass(frozen=True, eq=False)
class BenchmarkResult:
    """Result of `benchmark`."""

    results: pd.DataFrame
    """method, target, metric, mean, std, folds, n."""
    comparisons: pd.DataFrame
    """Every method against every other."""
    table: str
    """``table.md``."""
    account: RunAccount
    """Failures, timings, notes."""


def benchmark(
    study: str | Path,
    cohort: str | Path,
    targets: Sequence[str] | str,
    out: str | Path,
    methods: Sequence[str | Method] | None = None,
    *,
    folds: int = 5,
    repeats: int = 1,
    bootstrap: int = 0,
    group: str | None = None,
    log: Sequence[str] = (),
    task: Task | Mapping[str, Task] | None = None,
    seed: int = 0,
    preset: BenchmarkPreset = "default",
    covariates: Sequence[str] | None = None,
    options: MethodOptions | None = None,
    pretrained_on: str | None = None,
    region_truth: bool = False,
    leave_out: str | None = None,
    include_flagged: bool = False,
    exclude: Sequence[str] = (),
    device: Device = "auto",
    say: Say | None = None,
) -> BenchmarkResult:
    """Evaluate methods (default: all) on the subjects of ``cohort`` that are in ``study``.

    Embeddings are probed as `anatograph.evaluate` probes them, supervised networks are trained inside each fold; all on
    the same folds, which are common to all targets and stratified by all of them.  The floors, majority class and
    covariates alone (``covariates``; by default age, sex and site where available), are always included.  ``options``
    holds model folders, weights, and tables of vectors from other tools, which become rows of their own;
    ``pretrained_on`` names the pretraining cohort of a supplied model.

    ``leave_out`` names a column such as the scanner: besides the random folds each of its values is left out of the fit
    and predicted (metrics ``leave_out_…``), and each row says how well it reveals the column itself.  With ``group`` a
    regression also has ``r_within_group``, the correlation within groups.  Scans in ``exclude``, and those that the
    study's ``review.csv`` excludes or its table no longer lists, are left out, and those at level ``reject`` unless
    ``include_flagged``.

    Writes ``results.csv``, ``table.md``, ``comparisons.csv``, ``folds.csv``, ``predictions.parquet``, with
    ``region_truth`` also ``regions.csv``, with ``leave_out`` ``column_accuracy.csv``, and an account to ``out``, and
    rewrites them after every row.  Predictions of each fold are stored in ``out/methods``: the same call resumes where
    it stopped, and methods can be added.  A row that is unavailable or fails is reported and does not stop the others.

    Raises:
        UserError: an invalid request, or an ``out`` that holds another benchmark.
    """
    names = check_request(targets, folds, repeats, bootstrap, log, task)
    tasks = {name: task if isinstance(task, str) or task is None else task.get(name) for name in names}
    if preset not in PRESETS:
        raise UserError(f"There is no preset '{preset}'; choose from {', '.join(PRESETS)}.")
    options = options or MethodOptions()
    if options.region_embeddings and not region_truth:
        raise UserError(
            "Region features are compared with masks of disease; give --region-truth too, or leave them out."
        )
    external = external_rows(options)
    rows = [*external, *_chosen(methods, options)]
    opened, selection = usable(Study.open(study), include_flagged, exclude)
    check_inputs(options, opened)
    scheme = CrossValidation(folds, repeats, group, seed, leave_out)
    design = make_design(opened, read_cohort(cohort), tasks, log, scheme)
    for row in external:
        row.check([str(name) for name in design.table["subject_id"]])
    folder = Path(out)
    known = chosen_covariates(design.table, covariates)
    settings = {
        "study": str(study), "cohort": str(cohort), "targets": names, "methods": [row.slug for row in rows],
        "folds": folds, "repeats": repeats, "bootstrap": bootstrap, "group": group, "log": list(log), "tasks": tasks,
        "seed": seed, "preset": preset, "covariates": known, "options": options, "region_truth": region_truth,
        "pretrained_on": pretrained_on, "leave_out": leave_out, "device": device,
        "include_flagged": include_flagged, "exclude": list(exclude),
    }  # fmt: skip
    claim = {
        "targets": names, "tasks": tasks, "folds": folds, "repeats": repeats, "group": group, "log": sorted(log),
        "seed": seed, "preset": preset, "leave_out": leave_out, "study": design.study_digest(),
        "labels": design.labels_digest([*names, *(name for name in (group, leave_out) if name)]),
    }  # fmt: skip
    words = {"study": "other scans or another preprocessing", "labels": "other subjects or labels"}
    claim_folder(folder, "benchmark.json", claim, "a benchmark", words)
    scans = Scans(opened, design.table, folder / "work", seed, preset, device)
    scans.work.mkdir(exist_ok=True)
    with RunAccount("benchmark", settings, folder) as account:
        runner = RowRunner(design, scans, say or (lambda _: None))
        truth = read_truth(design, scans.work, runner.say) if region_truth else None
        reporter = Reporter(folder, design, log, bootstrap, truth, preset)
        run = _Run(folder, runner, options, pretrained_on, truth, account, reporter)
        run.rows([Majority(), Covariates(known), *rows])
        written = reporter.write([row.slug for row in rows])
        for name, reason in design.excluded.items():
            account.fail(name, "target", reason)
        for note in (*selection.notes, *design.notes, *reporter.notes):
            account.note(note)
        account.result(subjects=len(design.table), results=written.results.to_dict("records"))
        for file in written.files:
            account.output(file)
    return BenchmarkResult(written.results, written.comparisons, written.table, account)


@dataclass(frozen=True, eq=False)
class _Run:
    """One call of `benchmark`."""

    folder: Path
    runner: RowRunner
    options: MethodOptions
    pretrained_on: str | None
    truth: RegionTruth | None
    account: RunAccount
    reporter: Reporter

    def rows(self, methods: Sequence[Method]) -> None:
        """Compute all rows that are not finished, in order."""
        for method in methods:  # all of them before the first row starts, since the last may be hours away
            self._store(method).check(inputs_of(method, self.options))
        for number, method in enumerate(methods, start=1):
            self._row(method, f"[{number}/{len(methods)}]")
        if self.truth is not None:
            run_patch_density(self.runner.design, self.truth, self.folder / "methods", self.runner.say)

    def _store(self, method: Method) -> RowStore:
        return RowStore(self.folder / "methods" / method.slug)

    def _row(self, method: Method, counter: str) -> None:
        """Compute a row if it is not finished, and update the report; a row that fails is recorded."""
        store, say = self._store(method), self.runner.say
        if isinstance(method, Covariates) and not method.columns:
            self.reporter.notes.append("no row of covariates: age, sex and site are missing or constant")
            return
        made_with = inputs_of(method, self.options)
        store.begin(made_with)
        if store.about is None:
            say(f"{counter} {method.slug}: {method.title}")
        elif not self._lacks_regions(method, store):
            say(f"{counter} {method.slug}: already finished")
            return
        began = time.monotonic()
        try:
            if store.about is None:
                self.runner.run(method, store, made_with, self._note(method))
            if self._lacks_regions(method, store):
                self._regions(method, store)
        except UserError as error:
            self._failed(method, store, str(error), "")
        except Exception as error:
            reason = f"failed with {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
            self._failed(
                method, store, f"{reason} (traceback in {store.folder / 'failed.json'})", traceback.format_exc()
            )
        self.account.add_time(method.slug, time.monotonic() - began)
        self.reporter.write([])

    def _failed(self, method: Method, store: RowStore, reason: str, trace: str) -> None:
        store.fail(reason, trace)
        self.account.fail(method.slug, "method", reason)
        self.runner.say(f"  {method.slug}: {reason}")

    def _note(self, method: Method) -> str | None:
        """Pretraining cohort of a supplied model."""
        model = self.options.model_of(method.slug)
        if model is None:
            return None
        if self.pretrained_on:
            return f"pretrained on {self.pretrained_on}"
        return pretraining_note(model, self.runner.design.study)

    def _lacks_regions(self, method: Method, store: RowStore) -> bool:
        return self.truth is not None and isinstance(method, CohortMethod) and not store.region_state

    def _regions(self, method: Method, store: RowStore) -> None:
        assert isinstance(method, CohortMethod)
        assert self.truth is not None
        embedded(method, self.runner.scans, store)  # some methods compute both at once
        regions = method.regions(self.runner.scans)
        if regions is not None:
            self.runner.say(f"  {method.slug}: region by region")
            run_regions(regions, self.runner.design, self.truth, store)
        store.set_region_state("none" if regions is None else "done")


def _chosen(methods: Sequence[str | Method] | None, options: MethodOptions) -> list[Method]:
    wanted: Sequence[str | Method] = list(METHODS) if methods is None else methods
    rows = [make_method(one, options) if isinstance(one, str) else one for one in wanted if one not in FLOORS]
    unique = {row.slug: row for row in rows}
    order = {slug: place for place, slug in enumerate(METHODS)}
    return sorted(unique.values(), key=lambda row: order.get(row.slug, -1))
