"""Exchanges where the process group knows one kind of device only, as NCCL knows only CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from small_study import SmallStudy

from anatograph.learning import collectives
from anatograph.learning.contrast.augmentation import Augmenter, AugmentSettings
from anatograph.learning.data.cohort import read_cohort
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.training.bank import build_bank


class OnAccelerator(torch.Tensor):
    """A tensor that says it is on a GPU; whatever is computed from it says so too."""

    device = property(lambda self: torch.device("cuda", 0))  # type: ignore[assignment]


@pytest.fixture
def accelerator_group(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Two processes whose group refuses CPU tensors; both hold what this one holds. Gives the exchanges' shapes."""
    move, exchanged = torch.Tensor.to, list[torch.Size]()

    def to(self: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        target = args[0] if args else None
        if isinstance(target, torch.device):
            return self.as_subclass(OnAccelerator if target.type == "cuda" else torch.Tensor)  # type: ignore[arg-type]
        return move(self, *args, **options)

    def all_gather(out: list[torch.Tensor], rows: torch.Tensor) -> None:
        for tensor in (*out, rows):
            if tensor.device.type != "cuda":
                raise RuntimeError("No backend type associated with device type cpu")
        for part in out:
            part.copy_(rows)
        exchanged.append(rows.shape)

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(dist, "all_gather", all_gather)
    monkeypatch.setattr(dist, "barrier", lambda: None)
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    monkeypatch.setattr(collectives, "rank", lambda: 0)
    monkeypatch.setattr(collectives, "_exchanged_types", lambda: ["cuda"])
    return exchanged


def test_cpu_tensors_are_exchanged_on_the_device_that_the_group_knows(accelerator_group: list[torch.Size]) -> None:
    rows = torch.arange(6.0).view(3, 2)
    with pytest.raises(RuntimeError, match="device type cpu"):
        dist.all_gather([torch.empty(3, 2)], rows)
    out = collectives.gathered(rows)
    assert out.device.type == "cpu"
    assert torch.equal(out, torch.cat([rows, rows]))


def test_a_bank_of_views_needs_no_exchange_of_cpu_tensors(accelerator_group: list[torch.Size]) -> None:
    study = SmallStudy(5)
    config = ModelConfig(patch_size=16, feature_size=16)
    torch.manual_seed(0)
    model = Model(config, study.atlas.location_codes).eval()
    augmenter = Augmenter(AugmentSettings(smooth_low=4, smooth_high=6), 16)
    bank = build_bank(model, read_cohort(study), np.arange(5), 2, augmenter, (0, 1))
    assert accelerator_group
    assert bank.gathered.shape == (5, 2, 8, 16)
    assert bool((bank.gathered[[0, 2, 4]].abs().sum(dim=(1, 2, 3)) > 0).all())


def test_the_group_says_which_devices_it_knows() -> None:
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("cuda:fake", store=FakeStore(), rank=0, world_size=2)
    try:
        assert collectives._exchanged_types() == ["cuda"]
        with pytest.raises(RuntimeError, match="device type cpu"):
            dist.all_gather([torch.empty(2), torch.empty(2)], torch.ones(2))
    finally:
        dist.destroy_process_group()
