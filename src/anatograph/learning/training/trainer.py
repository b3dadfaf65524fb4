"""Interleaved pretraining, Algorithm 1: E and G take turns over one study."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.learning import collectives
from anatograph.learning.contrast.augmentation import Augmenter
from anatograph.learning.contrast.sync_norm import synchronise
from anatograph.learning.data.cohort import TrainingStudy, read_cohort
from anatograph.learning.data.loader import read_updates
from anatograph.learning.data.sampler import PatchSampler, SubjectSampler
from anatograph.learning.data.shown import source_of
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.seeding import GRAPH_ORDER, GRAPH_VIEWS, INITIAL, generator, numpy_generator
from anatograph.learning.training.bank import Bank, build_bank
from anatograph.learning.training.checkpoint import load_checkpoint, remove_unfinished, save_checkpoint
from anatograph.learning.training.exporter import ModelExporter, first_graph_statistics
from anatograph.learning.training.graph_stage import graph_update
from anatograph.learning.training.launch import Compute
from anatograph.learning.training.monitor import Monitor
from anatograph.learning.training.patch_stage import patch_update
from anatograph.learning.training.run_folder import CHECKPOINTS, MODEL
from anatograph.learning.training.schedule import Place, Schedule, learning_rate
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import TrainState


class Trainer:
    """One run in one process: what it trains, on what, and where it stands."""

    def __init__(
        self,
        compute: Compute,
        study: TrainingStudy,
        run: Path,
        settings: PretrainSettings,
        account: RunAccount,
        progress: bool = True,
        groups: Mapping[str, str] | None = None,
        strata: Mapping[str, str] | None = None,
    ) -> None:
        """``run`` is the folder of the run, ``account`` takes timings and notes, ``progress`` shows a bar.

        ``groups`` names the group of a subject, such as the patient; scans of one group are not contrasted.
        ``strata`` names its stratum, such as the scanner; where given, only subjects of one stratum are contrasted.
        """
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.compute, self.run, self.settings, self.account = compute, run, settings, account
        self.first = collectives.rank() == 0
        """Whether this process writes."""
        self.cohort = cohort = read_cohort(study, groups, source_of(study, settings.model), strata)
        world = collectives.world_size()
        self.patch_sampler = PatchSampler(
            cohort.present, settings.patch_batch, settings.landmarks_per_batch, settings.seed, world
        )
        self.graph_sampler = SubjectSampler(len(cohort.ids), settings.graph_batch, settings.seed, world)
        rounds = settings.patch_rounds or self.patch_sampler.rounds_per_pass
        self.schedule = Schedule(
            settings.epochs,
            settings.patch_steps or rounds * self.patch_sampler.updates_per_round,
            settings.graph_rounds or settings.graph_passes * self.graph_sampler.updates_per_pass,
        )
        kinds = None if cohort.strata is None else torch.from_numpy(cohort.strata)
        self.state = TrainState(initial_model(study, settings), settings, len(cohort.ids), compute.device, kinds)
        if world > 1 and settings.key_norm == "teacher":
            synchronise(self.state.model)
        config = settings.model
        self.augmenter = Augmenter(settings.augment, config.patch_size, compute.device, (config.hu_low, config.hu_high))
        self.exporter = ModelExporter(study, cohort, settings, run / MODEL)
        self.monitor = Monitor(settings, self.schedule, self.state, account, progress and self.first)
        self._saved_at = time.monotonic()

    def fit(self) -> None:
        """Train from the last checkpoint, or the beginning, to the end."""
        update, total = self._restore(), self.schedule.total
        if update >= total and (self.run / MODEL / "config.json").is_file():
            self.monitor.progress.say(f"{self.run} is finished; its model is in {self.run / MODEL}.")
            self.account.note("The run was finished already; nothing was done.")
            return
        if update == 0 and self.settings.key_norm == "teacher":
            self._estimate_first_statistics()
        self.monitor.start(update, self.run if self.first else None)
        self._saved_at = time.monotonic()
        try:
            if total == 0:  # the networks as initialised, with BatchNorm statistics as a trained model has them
                self._export(self.exporter.frozen(self.state.model, 0), -1, 0)
            while update < total:
                place = self.schedule.place(update)
                update = (
                    self._patch_level(update, place) if place.level == "patch" else self._graph_level(update, place)
                )
            self.account.result(
                updates=total,
                skipped=self.state.skipped,
                subjects=len(self.cohort.ids),
                collapsed=self.monitor.collapsed,
            )
            self.account.output(self.run / MODEL)
        finally:
            self.monitor.close()
        collectives.barrier()

    def _restore(self) -> int:
        """Load the last checkpoint, if there is one; returns the number of updates it comes after."""
        if self.first:
            remove_unfinished(self.run / CHECKPOINTS)
        found = load_checkpoint(self.run / CHECKPOINTS, self.monitor.progress.say)
        if found is None:
            return 0
        update, state = found
        self.state.load(state)
        if update < self.schedule.total:
            self.account.note(f"Resumed after update {update} of {self.schedule.total}.")
        return update

    # The patch level

    def _patch_level(self, update: int, place: Place) -> int:
        """T_l rounds of E, from ``update`` to the end of this level's turn; returns the updates done by then."""
        settings, total = self.settings, self.schedule.of_level("patch")
        stretch = range(place.update, place.update + place.left)
        batches = read_updates(self.cohort, self.patch_sampler, stretch, settings.workers, device=self.compute.device)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            read = time.perf_counter()
            self.account.add_time("reading", read - began)
            if batch is None:
                return update
            place = self.schedule.place(update)
            rate = learning_rate(place.update, total, settings.learning_rate, settings.warmup)
            result = patch_update(
                self.state, settings, self.augmenter, batch, place.update, rate, self.compute.autocast()
            )
            self.account.add_time("patch level", time.perf_counter() - read)
            update += 1
            self.monitor.after(update, place, result, rate, batch.total)
            self._save_if_due(update)

    # The graph level

    def _graph_level(self, update: int, place: Place) -> int:
        """T_g rounds of G on features of the frozen E, then the model of this epoch is written."""
        settings, began = self.settings, time.perf_counter()
        frozen = self.exporter.frozen(self.state.model, place.epoch)
        pool = self._pool(place.epoch)
        bank: Bank | None = None
        if settings.bank_views:
            bank = self._bank(frozen, pool, settings.bank_views, (settings.seed, GRAPH_VIEWS, place.epoch))
        if bank is not None and place.update == 0 and settings.key_norm == "teacher":
            self._estimate_first_graph_statistics(bank)
        self.account.add_time("bank of views", time.perf_counter() - began)
        total = self.schedule.of_level("graph")
        self.monitor.mark()
        for _ in range(place.left):
            began = time.perf_counter()
            place = self.schedule.place(update)
            rows = self.graph_sampler.rows(place.update, pool)
            views = None
            if not settings.bank_views:
                seeds = (settings.seed, GRAPH_VIEWS, place.epoch, place.update)
                bank = self._bank(frozen, np.unique(rows), 2, seeds)
                views = np.zeros(len(rows), dtype=np.int64), np.ones(len(rows), dtype=np.int64)
            if bank is None:
                raise RuntimeError("no bank")
            rate = learning_rate(place.update, total, settings.graph_learning_rate, settings.warmup)
            result = graph_update(self.state, settings, bank, rows, place.update, rate, views, self.compute.autocast())
            self.account.add_time("graph level", time.perf_counter() - began)
            update += 1
            last = place.left == 1
            if last:
                self._export(frozen, place.epoch, update)
            self.monitor.after(update, place, result, rate, len(rows) * self.cohort.landmarks)
            self._save_if_due(update, end_of_epoch=last)
        return update

    def banked_subjects(self, graph_updates: int) -> int:
        """Subjects in the bank of an epoch of that many graph updates: all, or as many as are drawn often enough."""
        drawn = graph_updates * self.graph_sampler.size
        return min(len(self.cohort.ids), max(self.graph_sampler.size, math.ceil(drawn / self.settings.bank_draws)))

    def _pool(self, epoch: int) -> NDArray[np.int64]:
        """Indices of the subjects that an epoch's graph level draws from."""
        subjects = len(self.cohort.ids)
        wanted = self.banked_subjects(self.schedule.graph_updates) if self.settings.bank_views else subjects
        if wanted == subjects:
            return np.arange(subjects)
        return np.sort(numpy_generator(self.settings.seed, GRAPH_ORDER, 1, epoch).permutation(subjects)[:wanted])

    def _bank(self, frozen: Model, subjects: NDArray[np.int64], views: int, seeds: tuple[int, ...]) -> Bank:
        tick = self.monitor.progress.counter("views for the graph level", len(subjects))
        return build_bank(frozen, self.cohort, subjects, views, self.augmenter, seeds, self.compute.autocast(), tick)

    # Beginning and end

    def _estimate_first_statistics(self) -> None:
        """Start a teacher's BatchNorm from statistics of patches.

        With mean 0 and variance 1 its first keys would be unlike the queries until its running averages had caught up.
        """
        statistics = self.exporter.frozen(self.state.model, 0).encoder.state_dict()
        self.state.model.encoder.load_state_dict(statistics)
        self.state.key.encoder.load_state_dict(statistics)

    def _estimate_first_graph_statistics(self, bank: Bank) -> None:
        """The same for G, on the first bank."""
        if self.state.model.graph is not None and self.state.key.graph is not None:
            statistics = first_graph_statistics(self.state.model, bank)
            self.state.model.graph.load_state_dict(statistics)
            self.state.key.graph.load_state_dict(statistics)

    def _export(self, frozen: Model, epoch: int, update: int) -> None:
        began, tick = time.perf_counter(), self.monitor.progress.counter("statistics of the study")
        score = self.exporter.export(self.state.model, frozen, epoch, update, self.compute.autocast(), tick)
        self.account.add_time("export", time.perf_counter() - began)
        if score is not None:
            self.monitor.probed(update, epoch, score)

    def _save_if_due(self, update: int, end_of_epoch: bool = False) -> None:
        if not end_of_epoch and time.monotonic() - self._saved_at < 60.0 * self.settings.checkpoint_minutes:
            return
        self.monitor.flush()
        if self.first:
            began = time.perf_counter()
            save_checkpoint(self.run / CHECKPOINTS, update, self.state.state(), self.settings.keep_checkpoints)
            self.account.add_time("checkpoints", time.perf_counter() - began)
        self._saved_at = time.monotonic()


def initial_model(study: TrainingStudy, settings: PretrainSettings) -> Model:
    """The networks with the random weights of the run's seed. Raises ``UserError`` where the patch sizes differ."""
    if settings.model.patch_size != study.atlas.patch_size:
        raise UserError(
            f"the study's patches have {study.atlas.patch_size} voxels a side and the model expects "
            f"{settings.model.patch_size}; set model.patch_size={study.atlas.patch_size}."
        )
    with torch.random.fork_rng():
        torch.manual_seed(int(generator(settings.seed, INITIAL).initial_seed()))
        model = Model(settings.model, study.atlas.location_codes)
    model.atlas = study.atlas
    return model
