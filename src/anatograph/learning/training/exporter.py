"""From a network in training to a model that can be used: statistics estimated on the study, the folder written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anatograph.learning import collectives
from anatograph.learning.contrast.batchnorm import recalibrate_batchnorm
from anatograph.learning.data.cohort import TrainingCohort, TrainingStudy, random_rows
from anatograph.learning.data.sampler import PatchSampler
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import save_model
from anatograph.learning.model.origins import origins
from anatograph.learning.model.whitening import MOST, whitening_by_parts
from anatograph.learning.monitoring.online_probe import probe_labels, probe_score
from anatograph.learning.seeding import RECALIBRATE, STATISTICS, numpy_generator
from anatograph.learning.training.bank import Bank, build_bank
from anatograph.learning.training.graph_stage import region_nodes, subject_features
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import frozen_copy

_CHUNK = 16
"""Subjects that go through G at once."""


class ModelExporter:
    """Freezes E for the graph level, and writes the model after an epoch."""

    def __init__(self, study: TrainingStudy, cohort: TrainingCohort, settings: PretrainSettings, folder: Path) -> None:
        """``folder`` is where the model goes."""
        self.study, self.cohort, self.settings, self.folder = study, cohort, settings, folder

    def frozen(self, model: Model, epoch: int) -> Model:
        """A copy of ``model`` whose E has BatchNorm statistics of a random sample of stored patches."""
        frozen = frozen_copy(model)
        settings, cohort = self.settings, self.cohort
        size = PatchSampler(cohort.present, settings.patch_batch, settings.patch_batch, settings.seed).size
        codes = model.location_codes
        batches: list[tuple[Tensor, Tensor]] = []
        for number in range(settings.recalibrate_batches):
            subjects, landmarks = random_rows(cohort, size, (settings.seed, RECALIBRATE, epoch, number))
            batches.append((torch.from_numpy(cohort.read(subjects, landmarks)), torch.from_numpy(landmarks)))
        # Every process computes this: each needs the result, and it is a small part of an epoch.
        on_device = ((patches.to(codes.device), codes[rows]) for patches, rows in batches)
        recalibrate_batchnorm(frozen.encoder, on_device, lambda batch: frozen.encode(*batch))
        return frozen.eval()

    def export(
        self,
        model: Model,
        frozen: Model,
        epoch: int,
        updates: int,
        autocast: torch.autocast | None = None,
        tick: Callable[[int], None] = lambda done: None,
    ) -> float | None:
        """Write ``model`` as it is after ``epoch``, with the encoder of ``frozen``; returns the online probe's score.

        BatchNorm's statistics in G and the whitening matrix are estimated on stored patches, not on augmented views.
        All processes call this, and the first one writes; ``tick`` takes the number of subjects done.
        The score is None where no probe is configured.
        """
        subjects = self._statistics_subjects(epoch)
        bank = build_bank(frozen, self.cohort, subjects, 1, None, (), autocast, tick)
        if collectives.rank() > 0:
            return None
        ready = frozen_copy(model)
        ready.encoder.load_state_dict(frozen.encoder.state_dict())
        banked = _chunks(bank, model.location_codes.device)
        if ready.graph is not None:
            recalibrate_batchnorm(ready.graph, banked, lambda batch: ready.nodes(*batch))
        ready.eval()
        if ready.whitening is not None:
            nodes = torch.cat([region_nodes(ready, *some) for some in banked]).cpu().numpy()
            ready.whitening.copy_(torch.from_numpy(whitening_by_parts(nodes, ready.config)))
        training: dict[str, Any] = {"epochs": epoch + 1, "updates": updates, "subjects": len(self.cohort.ids)}
        training |= {"cohort": self.study.digest(), **origins(self.study, self.folder.parent)}
        training["settings"] = self.settings.to_dict()
        save_model(ready, self.folder, self.study.atlas, dataclasses.asdict(self.study.settings), training)
        return self._probe(ready, bank, banked) if self.settings.probe_target else None

    def _statistics_subjects(self, epoch: int) -> NDArray[np.int64]:
        """Ascending indices of the subjects that statistics come from: after the last epoch the cohort or `MOST` of
        it, before that a batch of the graph level, for a model to look at."""
        count, settings = len(self.cohort.ids), self.settings
        last = epoch + 1 >= settings.epochs or bool(settings.probe_target)
        wanted = min(count, MOST if last else settings.graph_batch)
        random = numpy_generator(settings.seed, STATISTICS, max(epoch, 0))
        return np.sort(random.permutation(count)[:wanted])

    def _probe(self, ready: Model, bank: Bank, banked: list[tuple[Tensor, Tensor]]) -> float:
        with torch.no_grad():
            subjects = torch.cat([subject_features(ready, *some) for some in banked])
        features = (subjects if ready.whitening is None else subjects @ ready.whitening).cpu().numpy()
        names = [self.cohort.ids[i] for i in bank.subjects]
        labels = probe_labels(Path(self.settings.probe_table), self.settings.probe_target)
        return probe_score(features, labels.reindex(names))


def first_graph_statistics(model: Model, bank: Bank) -> dict[str, Tensor]:
    """The state of ``model``'s G with BatchNorm statistics of the bank's first views."""
    ready = frozen_copy(model)
    if ready.graph is None:
        return {}
    banked = _chunks(bank, model.location_codes.device)
    recalibrate_batchnorm(ready.graph, banked, lambda batch: ready.nodes(*batch))
    return dict(ready.graph.state_dict())


def _chunks(bank: Bank, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """The first views (B, N, F or 2F) of a bank and which landmarks are present (B, N), at most `MOST` subjects."""
    count = min(len(bank.subjects), MOST)
    parts = [slice(i, min(i + _CHUNK, count)) for i in range(0, count, _CHUNK)]
    return [(bank.gathered[part, 0].float().to(device), bank.present[part].to(device)) for part in parts]
