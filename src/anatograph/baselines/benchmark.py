"""Every row of the paper's tables on one cohort: the same people, folds, probes and report."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from anatograph.baselines.method import CohortMethod, Method, Scans
from anatograph.baselines.methods.floors import FLOORS, Covariates, Majority, chosen_covariates
from anatograph.baselines.plan import Plan, make_plan
from anatograph.baselines.provenance import told_of
from anatograph.baselines.region_rows import RegionTruth, read_truth, run_patch_density, run_regions
from anatograph.baselines.registry import METHODS, MethodOptions, make_method
from anatograph.baselines.report_files import Reporter
from anatograph.baselines.rows import RowStore, embedded, run_row
from anatograph.choices import BenchmarkPreset, Device, Task
from anatograph.errors import UserError
from anatograph.evaluation.cross_validation import check_request
from anatograph.execution.account import RunAccount
from anatograph.execution.files import write_text
from anatograph.study.cohort import read_cohort
from anatograph.study.store import Study

Say = Callable[[str], None]
PRESETS = ("default", "quick")


@dataclass(frozen=True, eq=False)
class Benchmarked:
    """What `benchmark` found."""

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
    device: Device = "auto",
    say: Say | None = None,
) -> Benchmarked:
    """Judge methods (all, if not named) on the people of ``cohort`` who are in ``study``.

    Embeddings are probed as `anatograph.evaluate` probes them, supervised networks are trained inside each fold; all on
    the same folds, which are common to all targets and hold the classes of each in proportion.  The floors, majority
    class and covariates alone (``covariates``, or age, sex and site as far as they are there), are always rows.
    ``options`` are model folders and weights; ``pretrained_on`` names the cohort that a given model comes from.

    ``out`` gets ``results.csv``, ``table.md``, ``comparisons.csv``, ``folds.csv``, ``predictions.parquet``, with
    ``region_truth`` ``regions.csv``, and an account.  They are written anew after every row.  What a row said in a
    fold is kept in ``out/methods``: the same call goes on where it stopped, and further methods can be added.  A row
    that cannot be had, or fails, is told in the report and the others go on.

    Raises:
        UserError: a request that cannot be met, or an ``out`` that holds another benchmark.
    """
    tell: Say = say or (lambda _: None)
    names = check_request(targets, folds, repeats, bootstrap, log, task)
    tasks = {name: task if isinstance(task, str) or task is None else task.get(name) for name in names}
    if preset not in PRESETS:
        raise UserError(f"There is no preset '{preset}'; choose from {', '.join(PRESETS)}.")
    options = options or MethodOptions()
    rows = _chosen(methods, options)
    opened = Study.open(study)
    _check_given(options, opened)
    plan = make_plan(opened, read_cohort(cohort), tasks, log, folds, repeats, group, seed)
    folder = Path(out)
    known = chosen_covariates(plan.table, covariates)
    settings = {
        "study": str(study), "cohort": str(cohort), "targets": names, "methods": [row.slug for row in rows],
        "folds": folds, "repeats": repeats, "bootstrap": bootstrap, "group": group, "log": list(log), "tasks": tasks,
        "seed": seed, "preset": preset, "covariates": known, "options": options, "region_truth": region_truth,
        "pretrained_on": pretrained_on, "device": device,
    }  # fmt: skip
    claim = {
        "targets": names, "tasks": tasks, "folds": folds, "repeats": repeats, "group": group, "log": sorted(log),
        "seed": seed, "preset": preset, "study": plan.study_digest(),
        "labels": plan.labels_digest([*names, *([group] if group else [])]),
    }  # fmt: skip
    _claim(folder, claim)
    scans = Scans(opened, plan.table, folder / "work", seed, preset, device)
    scans.work.mkdir(exist_ok=True)
    with RunAccount("benchmark", settings, folder) as account:
        truth = read_truth(plan, scans.work, tell) if region_truth else None
        reporter = Reporter(folder, plan, log, bootstrap, truth)
        everything: list[Method] = [Majority(), Covariates(known), *rows]
        job = _Job(plan, scans, folder, options, pretrained_on, truth, account, reporter, tell)
        for method in everything:  # before the first, since it may be hours to the last
            RowStore(folder / "methods" / method.slug).check(_made_with(method, options))
        for number, method in enumerate(everything, start=1):
            job.run(method, f"[{number}/{len(everything)}]")
        if truth is not None:
            run_patch_density(plan, truth, folder / "methods", tell)
        found = reporter.write([row.slug for row in rows])
        for name, reason in plan.left_out.items():
            account.fail(name, "target", reason)
        for note in (*plan.notes, *reporter.notes):
            account.note(note)
        account.result(people=len(plan.table), results=found.results.to_dict("records"))
        for file in found.files:
            account.output(file)
    return Benchmarked(found.results, found.comparisons, found.table, account)


@dataclass(frozen=True, eq=False)
class _Job:
    """What every row needs."""

    plan: Plan
    scans: Scans
    folder: Path
    options: MethodOptions
    pretrained_on: str | None
    truth: RegionTruth | None
    account: RunAccount
    reporter: Reporter
    say: Say

    def run(self, method: Method, where: str) -> None:
        """Do a row if it is not done, and write the report; a row that fails is recorded."""
        store = RowStore(self.folder / "methods" / method.slug)
        if isinstance(method, Covariates) and not method.columns:
            self.reporter.notes.append("no row of covariates: the cohort has none of age, sex and site that varies")
            return
        made_with = _made_with(method, self.options)
        store.begin(made_with)
        if store.about is None:
            self.say(f"{where} {method.slug}: {method.title}")
        elif not self._lacks_regions(method, store):
            self.say(f"{where} {method.slug}: kept")
            return
        began = time.monotonic()
        try:
            if store.about is None:
                run_row(method, self.plan, self.scans, store, made_with, self.say, self._note(method))
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
        store.failed(reason, trace)
        self.account.fail(method.slug, "method", reason)
        self.say(f"  {method.slug}: {reason}")

    def _note(self, method: Method) -> str | None:
        """Where a given model comes from."""
        model = _model_of(method.slug, self.options)
        if model is None:
            return None
        return f"pretrained on {self.pretrained_on}" if self.pretrained_on else told_of(model, self.plan.study)

    def _lacks_regions(self, method: Method, store: RowStore) -> bool:
        return self.truth is not None and isinstance(method, CohortMethod) and not store.region_state

    def _regions(self, method: Method, store: RowStore) -> None:
        if self.truth is None or not isinstance(method, CohortMethod) or store.region_state:
            return
        embedded(method, self.scans, store)  # some methods make both at once
        regions = method.regions(self.scans)
        if regions is not None:
            self.say(f"  {method.slug}: region by region")
            run_regions(regions, self.plan, self.truth, store)
        store.set_region_state("none" if regions is None else "done")


def _chosen(methods: Sequence[str | Method] | None, options: MethodOptions) -> list[Method]:
    wanted: Sequence[str | Method] = list(METHODS) if methods is None else methods
    rows = [make_method(one, options) if isinstance(one, str) else one for one in wanted if one not in FLOORS]
    unique = {row.slug: row for row in rows}
    order = {slug: place for place, slug in enumerate(METHODS)}
    return sorted(unique.values(), key=lambda row: order.get(row.slug, -1))


def _check_given(options: MethodOptions, study: Study) -> None:
    """Refuse at once what would fail a row hours later.

    Raises:
        UserError: a model folder or a file of weights that is not there, or a model of another atlas.
    """
    for slug, path in options.weights.items():
        if not path.is_file():
            raise UserError(f"There is no file {path} with weights for {slug}.")
    for slug, folder in options.models.items():
        try:
            atlas = json.loads((folder / "config.json").read_text(encoding="utf-8"))["atlas"]["hash"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder}, given for {slug}, is no model folder; give one such as RUN/model.") from error
        if atlas != study.about["atlas_hash"]:
            raise UserError(
                f"{folder}, given for {slug}, is of another atlas (hash {str(atlas)[:12]}) than the study {study.path} "
                f"(hash {str(study.about['atlas_hash'])[:12]}); preprocess with `--atlas {folder / 'atlas'}`."
            )


def _model_of(slug: str, options: MethodOptions) -> Path | None:
    found = options.models.get(slug)
    return options.models.get("anatograph") if found is None and slug == "without-graph" else found


def _made_with(method: Method, options: MethodOptions) -> dict[str, Any]:
    """What a row was given, so that it is not mixed with the same row made of something else."""
    given: dict[str, Any] = {}
    model = _model_of(method.slug, options)
    if model is not None:
        given["model"] = _file_digest(model / "model.safetensors")
    weights = options.weights.get(method.slug)
    if weights is not None:
        given["weights"] = _file_digest(weights)
    if isinstance(method, Covariates):
        given["covariates"] = list(method.columns)
    return given


def _file_digest(path: Path) -> str:
    """First letters of the SHA-256 of a file; the path where it cannot be read, which the row will say."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return str(path)
    return digest.hexdigest()[:16]


def _claim(folder: Path, claim: Mapping[str, Any]) -> None:
    """Make ``folder`` this benchmark's own, or refuse what is not."""
    mark = folder / "benchmark.json"
    claim = json.loads(json.dumps(claim))
    if mark.is_file():
        try:
            found = json.loads(mark.read_text(encoding="utf-8"))
        except ValueError:
            found = {}
        digests = {"study": "other scans or another preprocessing", "labels": "other people or labels"}
        differing = [
            digests.get(key, f"{key} {found.get(key)!r}, not {claim[key]!r}")
            for key in claim
            if found.get(key) != claim[key]
        ]
        if differing:
            raise UserError(
                f"{folder} holds a benchmark made with other settings ({'; '.join(differing)}); give the same ones, or "
                "another --out."
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty and holds no benchmark; give a new folder to --out.")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(mark, json.dumps(claim, indent=2) + "\n")
