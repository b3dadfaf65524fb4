"""From a network in training to a model that can be used: statistics estimated on the study, the folder written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anatograph.learning.contrast.batchnorm import recalibrate_batchnorm
from anatograph.learning.data.cohort import TrainingCohort, TrainingStudy, random_rows
from anatograph.learning.data.sampler import PatchSampler
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import save_model
from anatograph.learning.model.whitening import MOST, whitening
from anatograph.learning.monitoring.online_probe import probe_score
from anatograph.learning.seeding import RECALIBRATE
from anatograph.learning.training.bank import Bank
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
        batches: list[Tensor] = []
        for number in range(settings.recalibrate_batches):
            subjects, landmarks = random_rows(cohort, size, (settings.seed, RECALIBRATE, epoch, number))
            hu = cohort.source.read_patches([cohort.ids[s] for s in subjects], landmarks)
            batches.append(torch.from_numpy(np.ascontiguousarray(hu)))
        # Every process computes this: each needs the result, and it is a small part of an epoch.
        device = model.location_codes.device
        recalibrate_batchnorm(frozen.encoder, (b.to(device) for b in batches), frozen.encode)
        return frozen.eval()

    def export(self, model: Model, frozen: Model, bank: Bank, epoch: int, updates: int) -> float | None:
        """Write ``model`` as it is after ``epoch``, with the encoder of ``frozen``; returns the online probe's score.

        BatchNorm's statistics in G and the whitening matrix are estimated on the bank. The score is None where no
        probe is configured.
        """
        ready = frozen_copy(model)
        ready.encoder.load_state_dict(frozen.encoder.state_dict())
        device = model.location_codes.device
        chunks = [slice(i, i + _CHUNK) for i in range(0, len(bank.subjects), _CHUNK)]
        banked = [(bank.gathered[c, 0].float().to(device), bank.present[c].to(device)) for c in chunks]
        if ready.graph is not None:
            network = ready.graph
            recalibrate_batchnorm(network, banked, lambda b: network.nodes(*b))  # type: ignore[arg-type]
        ready.eval()
        if ready.whitening is not None:
            nodes = [region_nodes(ready, *some) for some in banked[: -(-MOST // _CHUNK)]]
            matrix = whitening(torch.cat(nodes).cpu().numpy(), ready.config.whiten)
            ready.whitening.copy_(torch.from_numpy(matrix))
        training: dict[str, Any] = {"epochs": epoch + 1, "updates": updates, "subjects": len(self.cohort.ids)}
        training |= {"cohort": self.study.digest(), "settings": self.settings.to_dict()}
        save_model(ready, self.folder, self.study.atlas, dataclasses.asdict(self.study.settings), training)
        if not self.settings.probe_target:
            return None
        subjects = torch.cat([subject_features(ready, *some) for some in banked])
        features = (subjects if ready.whitening is None else subjects @ ready.whitening).cpu().numpy()
        names = [self.cohort.ids[i] for i in bank.subjects]
        return probe_score(features, names, Path(self.settings.probe_table), self.settings.probe_target)
