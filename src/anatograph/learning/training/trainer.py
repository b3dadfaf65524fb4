"""Interleaved pretraining, Algorithm 1, from a study to a model folder."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.learning import processes
from anatograph.learning.contrast.augmentation import Augmenter
from anatograph.learning.contrast.batchnorm import recalibrate_batchnorm
from anatograph.learning.memory import keep_memory
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import save_model
from anatograph.learning.model.whitening import MOST, whitening
from anatograph.learning.seeding import GRAPH_ORDER, GRAPH_VIEWS, INITIAL, RECALIBRATE, generator, numpy_generator
from anatograph.learning.training.bank import Bank, build_bank
from anatograph.learning.training.checkpoint import load_checkpoint, remove_unfinished, save_checkpoint
from anatograph.learning.training.cohort import random_rows, read_cohort
from anatograph.learning.training.graph_stage import graph_update, region_nodes, subject_features
from anatograph.learning.training.metrics import MetricsFile, collapse
from anatograph.learning.training.patch_stage import Outcome, patch_update
from anatograph.learning.training.progress import Progress
from anatograph.learning.training.run_folder import CHECKPOINTS, MODEL, begin_run, check_run
from anatograph.learning.training.sampler import PatchBatch, PatchSampler, SubjectSampler, read_updates, share
from anatograph.learning.training.schedule import Place, Plan, learning_rate
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import HISTORY, TrainState, frozen_copy

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from anatograph.study.store import Study


def pretrain(
    study: Study | Path | str,
    run: Path | str,
    settings: PretrainSettings | None = None,
    resume: bool = False,
    progress: bool = True,
) -> RunAccount:
    """Pretrain on a study (Algorithm 1) and leave the model in ``run/model``.

    ``settings`` None: the run's own on a resume, else the default preset. With ``resume`` a run that was stopped, in
    whatever way, goes on from its last checkpoint and ends with the same bits as one that was not. Under ``torchrun``
    all processes call this and share the work.

    Returns the account of the run, which is also written to ``run/pretrain.run.json``. Raises ``UserError`` for
    settings or folders that do not fit, a cohort of fewer than two subjects, and a run that diverges.
    """
    if isinstance(study, str | Path):
        from anatograph.study.store import Study as Store

        study = Store.open(Path(study))
    run = Path(run)
    ids = list(study.subject_ids)
    if len(ids) < 2:
        raise UserError(
            f"pretraining contrasts people with each other and needs at least 2 subjects; this study has {len(ids)}."
        )
    about = {"atlas_hash": study.atlas.hash, "subjects": ids}
    chosen = check_run(run, settings, resume, about)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch then asks for large pages, from its first array on
    keep_memory()
    with processes.together(chosen) as fabric:
        processes.barrier()  # everybody has looked at the folder before anything is written there
        account = RunAccount("pretrain", chosen.to_dict(), run)
        first = processes.rank() == 0
        if first:
            begin_run(run, chosen, about)
        with account if first else nullcontext():
            Pretraining(fabric, study, run, chosen, account, progress).go()
    return account


class Pretraining:
    """A run under way."""

    def __init__(
        self, fabric: Fabric, study: Any, run: Path, settings: PretrainSettings, account: RunAccount, progress: bool
    ) -> None:
        self.study, self.run, self.settings, self.account = study, run, settings, account
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.fabric, self.device = fabric, fabric.device
        self.first = processes.rank() == 0
        self.cohort = read_cohort(study)
        people = len(self.cohort.ids)
        world = processes.world_size()
        self.patch_sampler = PatchSampler(
            self.cohort.present, settings.patch_batch, settings.landmarks_per_batch, settings.seed, world
        )
        self.graph_sampler = SubjectSampler(people, settings.graph_batch, settings.seed, world)
        rounds = settings.patch_rounds or self.patch_sampler.rounds_per_pass
        self.plan = Plan(
            settings.epochs,
            settings.patch_steps or rounds * self.patch_sampler.updates_per_round,
            settings.graph_rounds or settings.graph_passes * self.graph_sampler.updates_per_pass,
        )
        self.model = self._initial_model()
        self.state = TrainState(self.model, settings, people, self.device)
        if world > 1 and settings.key_norm == "teacher":
            from anatograph.learning.contrast.sync_norm import synchronise

            synchronise(self.model)
        config = self.model.config
        self.augmenter = Augmenter(settings.augment, config.patch_size, self.device, (config.hu_low, config.hu_high))
        self.progress = Progress(progress and self.first)
        self.metrics: MetricsFile | None = None
        self._collapsed = False
        self._suspected = 0
        self._begun = time.monotonic()
        self._saved_at = time.monotonic()
        self._marked = time.monotonic()
        self._patches = 0

    def go(self) -> None:
        """From the last checkpoint, or the beginning, to the end."""
        update = self._restore()
        if update >= self.plan.total and (self.run / MODEL / "config.json").is_file():
            self.progress.say(f"{self.run} is finished; its model is in {self.run / MODEL}.")
            self.account.note("The run was finished already; nothing was done.")
            return
        if update == 0 and self.settings.key_norm == "teacher":
            self._begin_statistics()
        self.metrics = MetricsFile(self.run, update) if self.first else None
        self.progress.start(self.plan.total, update)
        self._saved_at = self._marked = time.monotonic()
        try:
            if self.plan.total == 0:
                self._export_untrained()
            while update < self.plan.total:
                place = self.plan.place(update)
                update = (
                    self._patch_level(update, place) if place.level == "patch" else self._graph_level(update, place)
                )
            self.account.result(
                updates=self.plan.total,
                skipped=self.state.skipped,
                subjects=len(self.cohort.ids),
                collapsed=self._collapsed,
            )
            self.account.output(self.run / MODEL)
        finally:
            self.progress.close()
            if self.metrics is not None:
                self.metrics.close()
        processes.barrier()

    def _initial_model(self) -> Model:
        with torch.random.fork_rng():
            torch.manual_seed(int(generator(self.settings.seed, INITIAL).initial_seed()))
            model = Model(self.settings.model, self.study.atlas.location_codes)
        if self.settings.model.patch_size != self.study.atlas.patch_size:
            raise UserError(
                f"the study's patches have {self.study.atlas.patch_size} voxels a side and the model expects "
                f"{self.settings.model.patch_size}; set model.patch_size={self.study.atlas.patch_size}."
            )
        model.atlas = self.study.atlas
        return model

    def _restore(self) -> int:
        if self.first:
            remove_unfinished(self.run / CHECKPOINTS)
        found = load_checkpoint(self.run / CHECKPOINTS, self.progress.say)
        if found is None:
            return 0
        update, state = found
        self.state.load(state)
        if update < self.plan.total:
            self.account.note(f"Resumed after update {update} of {self.plan.total}.")
        return update

    # The patch level

    def _patch_level(self, update: int, place: Place) -> int:
        """T_l rounds of E, from where the epoch stands to its end."""
        settings = self.settings
        stretch = range(place.update, place.update + place.left)
        total = self.plan.of_level("patch")
        batches = self._batches(stretch)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            read = time.perf_counter()
            self.account.add_time("reading", read - began)
            if batch is None:
                return update
            place = self.plan.place(update)
            rate = learning_rate(place.update, total, settings.learning_rate, settings.warmup)
            outcome = patch_update(self.state, settings, self.augmenter, batch, place.update, rate, self._autocast())
            self.account.add_time("patch level", time.perf_counter() - read)
            update += 1
            self._after(update, place, outcome, rate, batch.total)

    def _batches(self, stretch: range) -> Iterator[PatchBatch]:
        return read_updates(
            self.cohort.source,
            self.cohort.ids,
            self.patch_sampler,
            stretch,
            self.settings.workers,
            processes.rank(),
            processes.world_size(),
        )

    # The graph level

    def _graph_level(self, update: int, place: Place) -> int:
        """T_g rounds of G on features of E, which stands still; then the model of this epoch is written."""
        settings, began = self.settings, time.perf_counter()
        frozen = self._frozen(place.epoch)
        pool = self._pool(place.epoch)
        bank: Bank | None = None
        if settings.bank_views:
            bank = self._bank(frozen, pool, settings.bank_views, (settings.seed, GRAPH_VIEWS, place.epoch))
        self.account.add_time("bank of views", time.perf_counter() - began)
        total = self.plan.of_level("graph")
        self._mark()
        for _ in range(place.left):
            began = time.perf_counter()
            place = self.plan.place(update)
            rows = self.graph_sampler.rows(place.update, pool)
            views = None
            if not settings.bank_views:
                names = (settings.seed, GRAPH_VIEWS, place.epoch, place.update)
                bank = self._bank(frozen, np.unique(rows), 2, names)
                views = np.zeros(len(rows), dtype=np.int64), np.ones(len(rows), dtype=np.int64)
            if bank is None:
                raise RuntimeError("no bank")
            rate = learning_rate(place.update, total, settings.graph_learning_rate, settings.warmup)
            outcome = graph_update(self.state, settings, bank, rows, place.update, rate, views, self._autocast())
            self.account.add_time("graph level", time.perf_counter() - began)
            update += 1
            if place.left == 1:
                self._end_epoch(frozen, bank, place, update)
            self._after(update, place, outcome, rate, len(rows) * self.cohort.landmarks)
        return update

    def _pool(self, epoch: int) -> NDArray[np.int64]:
        """Whose views are banked in an epoch: all, or as many as are drawn often enough."""
        people = len(self.cohort.ids)
        if not self.settings.bank_views:
            return np.arange(people)
        drawn = self.plan.graph_updates * self.graph_sampler.size
        wanted = min(people, max(self.graph_sampler.size, math.ceil(drawn / self.settings.bank_draws)))
        if wanted == people:
            return np.arange(people)
        return np.sort(numpy_generator(self.settings.seed, GRAPH_ORDER, 1, epoch).permutation(people)[:wanted])

    def _bank(self, frozen: Model, subjects: NDArray[np.int64], views: int, chance: tuple[int, ...]) -> Bank:
        self.progress.stage("views for the graph level")
        return build_bank(frozen, self.cohort, subjects, views, self.augmenter, chance, self._autocast())

    def _frozen(self, epoch: int) -> Model:
        """The model as it stands, its E with statistics of BatchNorm over a random sample of stored patches."""
        frozen = frozen_copy(self.model)
        sampler = PatchSampler(
            self.cohort.present, self.settings.patch_batch, self.settings.patch_batch, self.settings.seed
        )
        batches: list[torch.Tensor] = []
        for number in range(self.settings.recalibrate_batches):
            names = (self.settings.seed, RECALIBRATE, epoch, number)
            subjects, landmarks = random_rows(self.cohort, sampler.size, names)
            hu = self.cohort.source.read_patches([self.cohort.ids[s] for s in subjects], landmarks)
            batches.append(torch.from_numpy(np.ascontiguousarray(hu)))
        # Not split over processes: every one needs the result, and it is a small part of an epoch.
        recalibrate_batchnorm(frozen.encoder, (b.to(self.device) for b in batches), frozen.encode)
        return frozen.eval()

    def _begin_statistics(self) -> None:
        """A teacher's BatchNorm begins with statistics of patches, not with mean 0 and variance 1: its first keys would
        else be of another kind than the queries, until the running averages had come there."""
        statistics = self._frozen(0).encoder.state_dict()
        self.model.encoder.load_state_dict(statistics)
        self.state.key.encoder.load_state_dict(statistics)

    def _export_untrained(self) -> None:
        """The networks as they were drawn, with statistics of BatchNorm as a trained model gets them."""
        frozen, views = self._frozen(0), max(2, self.settings.bank_views)
        some = self._pool(0)[: self.graph_sampler.size]  # a batch of people is enough for G's statistics
        bank = self._bank(frozen, some, views, (self.settings.seed, GRAPH_VIEWS, 0))
        self._end_epoch(frozen, bank, Place(-1, "graph", 0, 1), 0)

    def _end_epoch(self, frozen: Model, bank: Bank, place: Place, update: int) -> None:
        """Write the model as it is after this epoch, and let the probe look at it."""
        if not self.first:
            return
        ready = frozen_copy(self.model)
        ready.encoder.load_state_dict(frozen.encoder.state_dict())
        chunks = [slice(i, i + 16) for i in range(0, len(bank.subjects), 16)]
        everybody = [(bank.gathered[c, 0].float().to(self.device), bank.present[c].to(self.device)) for c in chunks]
        if ready.graph is not None:
            network = ready.graph
            recalibrate_batchnorm(network, everybody, lambda b: network.nodes(*b))  # type: ignore[arg-type]
        ready.eval()
        if ready.whitening is not None:
            nodes = [region_nodes(ready, *some) for some in everybody[: -(-MOST // 16)]]
            matrix = whitening(torch.cat(nodes).cpu().numpy(), ready.config.whiten)
            ready.whitening.copy_(torch.from_numpy(matrix))
        training: dict[str, Any] = {"epochs": place.epoch + 1, "updates": update, "subjects": len(self.cohort.ids)}
        training |= {"cohort": self.study.digest(), "settings": self.settings.to_dict()}
        save_model(ready, self.run / MODEL, self.study.atlas, described(self.study.settings), training)
        if self.settings.probe_target and self.metrics is not None:
            from anatograph.learning.training.online_probe import probe_score

            subjects = torch.cat([subject_features(ready, *b) for b in everybody])
            features = (subjects if ready.whitening is None else subjects @ ready.whitening).cpu().numpy()
            names = [self.cohort.ids[i] for i in bank.subjects]
            score = probe_score(features, names, Path(self.settings.probe_table), self.settings.probe_target)
            self.metrics.write({"step": update, "epoch": place.epoch, "level": "probe", "probe": score})
            self.progress.say(f"Epoch {place.epoch + 1}: probe of {self.settings.probe_target} {score:.3f}.")

    # After each update

    def _after(self, update: int, place: Place, outcome: Outcome, rate: float, patches: int) -> None:
        settings, averages = self.settings, self.state.averages[place.level]
        self.state.record(outcome.finite)
        self._patches += patches
        if outcome.finite:
            averages.add(
                loss=outcome.loss, accuracy=outcome.accuracy, positive=outcome.positive, negatives=outcome.negatives
            )
        if place.update % settings.watch_every == 0 and outcome.finite:
            self._watch(outcome, place)
        last = place.left == 1
        if (place.update + 1) % settings.log_every == 0 or last:
            self._log(update, place, rate)
        self.progress.step(place.level)
        wrong = sum(self.state.history)
        if wrong > settings.max_skipped * HISTORY:
            raise UserError(
                f"training diverges: {wrong} of the last {len(self.state.history)} updates were not finite and were "
                f"skipped (update {update}, {place.level} level); lower learning_rate, raise warmup, or set "
                "precision=fp32."
            )
        end = last and (place.level == "graph")
        if end or time.monotonic() - self._saved_at >= 60.0 * settings.checkpoint_minutes:
            self._save(update)

    def _watch(self, outcome: Outcome, place: Place) -> None:
        from anatograph.learning.training.diagnostics import alignment, effective_rank, uniformity

        keys = outcome.key
        mine = keys[share(len(keys), processes.rank(), processes.world_size())]
        rank, spread = effective_rank(keys), uniformity(keys)
        self.state.averages[place.level].add(
            alignment=alignment(outcome.query, mine), uniformity=spread, effective_rank=rank
        )
        sentence = collapse(rank, spread, len(keys))
        # An untrained network's features lie close together too: it has a tenth of the run to pull them apart.
        early = place.update < max(100, self.plan.of_level(place.level) // 10)
        self._suspected = self._suspected + 1 if sentence and not early else 0
        if self._suspected == 2 and not self._collapsed:
            self._collapsed = True
            self.progress.say(sentence)
            self.account.note(sentence)

    def _log(self, update: int, place: Place, rate: float) -> None:
        means = self.state.averages[place.level].take()
        seconds = time.monotonic() - self._marked
        speed = self._patches / max(seconds, 1e-9)
        self._mark()
        self.progress.figures(means.get("loss"), means.get("accuracy"), speed)
        if self.metrics is None:
            return
        row: dict[str, Any] = {"step": update, "epoch": place.epoch, "level": place.level, **means}
        row |= {"learning_rate": rate, "skipped": self.state.skipped, "patches_per_second": speed}
        self.metrics.write({**row, "seconds": round(time.monotonic() - self._begun, 3)})

    def _mark(self) -> None:
        self._marked, self._patches = time.monotonic(), 0

    def _save(self, update: int) -> None:
        if self.first:
            began = time.perf_counter()
            save_checkpoint(self.run / CHECKPOINTS, update, self.state.state(), self.settings.keep_checkpoints)
            self.account.add_time("checkpoints", time.perf_counter() - began)
        self._saved_at = time.monotonic()

    def _autocast(self) -> torch.autocast | None:
        if self.fabric.strategy.precision.precision == "bf16-mixed":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return None


def described(settings: Any) -> dict[str, Any]:
    """A study's settings as plain values."""
    import dataclasses

    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return dataclasses.asdict(settings)
    return dict(settings) if settings else {}
