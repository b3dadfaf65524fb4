"""Which patches make up which update: every subject in turn, the landmark in the item, whatever the reader."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from small_study import SmallStudy

from anatograph.errors import UserError
from anatograph.learning.collectives import share_of
from anatograph.learning.data import loader
from anatograph.learning.data.cohort import read_cohort
from anatograph.learning.data.loader import PatchBatch, read_updates
from anatograph.learning.data.sampler import PatchSampler, SubjectSampler


def test_a_batch_mixes_landmarks_and_subjects() -> None:
    sampler = PatchSampler(np.ones((100, 581), dtype=bool), 128, 8, seed=0)
    assert (sampler.size, sampler.landmarks, sampler.subjects_per_landmark) == (128, 8, 16)
    subjects, landmarks = sampler.rows(5)
    assert len(np.unique(landmarks)) == 8
    assert all(len(np.unique(subjects[landmarks == j])) == 16 for j in np.unique(landmarks))


def test_a_pass_shows_every_subject_once_at_every_landmark() -> None:
    present = np.random.default_rng(0).random((12, 10)) > 0.2
    sampler = PatchSampler(present, 8, 2, seed=4)
    seen = np.zeros_like(present, dtype=int)
    for update in range(sampler.updates_per_round * sampler.rounds_per_pass):
        subjects, landmarks = sampler.rows(update)
        np.add.at(seen, (subjects, landmarks), 1)
    assert (seen[~present] == 0).all()
    assert seen[present].min() >= 1
    # A landmark that some subjects lack meets the others a little more often, by at most one turn.
    assert seen[:, present.all(axis=0)].max() == 1
    assert seen.max() <= 2


@pytest.mark.parametrize(("subjects", "landmarks", "batch"), [(2, 3, 128), (6, 581, 128), (5, 8, 7), (300, 4, 64)])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_cohorts_of_any_size_give_whole_batches(subjects: int, landmarks: int, batch: int, processes: int) -> None:
    sampler = PatchSampler(np.ones((subjects, landmarks), dtype=bool), batch, 8, seed=0, multiple=processes)
    sizes = {len(sampler.rows(u)[0]) for u in range(2 * sampler.updates_per_round)}
    assert sizes == {sampler.size}
    assert sampler.size % processes == 0
    assert sampler.size <= batch + processes
    whole = np.concatenate([np.arange(sampler.size)[share_of(sampler.size, r, processes)] for r in range(processes)])
    assert whole.tolist() == list(range(sampler.size))
    graph = SubjectSampler(subjects, 16, seed=0, multiple=processes)
    rows = graph.rows(3)
    assert len(rows) == graph.size
    assert graph.size % processes == 0
    assert rows.max() < subjects


def test_subjects_come_in_turn() -> None:
    sampler = SubjectSampler(10, 4, seed=1)
    drawn = np.concatenate([sampler.rows(u) for u in range(5)])
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    among = np.array([2, 5, 7])
    assert set(sampler.rows(9, among)) <= set(among)


def test_an_update_depends_on_the_seed_and_its_number_alone() -> None:
    present = np.ones((20, 30), dtype=bool)
    one, two = PatchSampler(present, 16, 4, seed=1), PatchSampler(present, 16, 4, seed=1)
    late = one.rows(77)
    for update in range(5):
        one.rows(update)
    np.testing.assert_array_equal(late, one.rows(77))
    np.testing.assert_array_equal(late, two.rows(77))
    assert not np.array_equal(late, PatchSampler(present, 16, 4, seed=2).rows(77))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_nothing(workers: int) -> None:
    """And every patch is the patch of its own subject and landmark, to the last update."""
    study = SmallStudy(subjects=5, grid=2, patch=8)
    sampler = PatchSampler(study.present, 8, 2, seed=0)
    updates = range(3, 12)
    alone = list(read_updates(read_cohort(study), sampler, updates))
    several = list(read_updates(read_cohort(study), sampler, updates, workers=workers))
    assert len(alone) == len(several) == len(updates)
    for one, two in zip(alone, several, strict=True):
        assert torch.equal(one.patches, two.patches)
        assert torch.equal(one.landmarks, two.landmarks)
        expected = study.patches[two.groups.numpy(), two.landmarks.numpy()]
        np.testing.assert_array_equal(two.patches.numpy(), expected)


def test_processes_read_parts_of_one_batch() -> None:
    study = SmallStudy(subjects=5, grid=2, patch=8)
    sampler = PatchSampler(study.present, 8, 2, seed=0, multiple=2)
    whole = next(read_updates(read_cohort(study), sampler, range(1)))
    parts = [next(read_updates(read_cohort(study), sampler, range(1), part=share_of(8, r, 2))) for r in (0, 1)]
    assert torch.equal(torch.cat([p.patches for p in parts]), whole.patches)
    assert parts[1].start == len(whole.patches) // 2
    assert torch.equal(parts[1].all_groups, whole.groups)


def test_a_study_without_any_landmark_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to learn"):
        PatchSampler(np.zeros((3, 4), dtype=bool), 8, 2, seed=0)


def test_the_next_batch_is_copied_while_a_gpu_works_on_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """With streams that only write down what happens, as no GPU is needed for the order of things."""
    events: list[str] = []

    class Stream:
        def __init__(self, *_: object) -> None: ...

        def wait_stream(self, other: object) -> None:
            events.append("wait for the copy")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, _: None)
    study = SmallStudy(subjects=5, grid=2, patch=8)
    sampler = PatchSampler(study.present, 8, 2, seed=0)
    batches = list(read_updates(read_cohort(study), sampler, range(3)))

    def read() -> Iterator[PatchBatch]:
        for number, batch in enumerate(batches):
            events.append(f"copy {number}")
            yield batch

    for number, batch in enumerate(loader._on_device(read(), torch.device("cpu"))):
        events.append(f"use {number}")
        assert torch.equal(batch.patches, batches[number].patches)
    assert events == [
        *("copy 0", "wait for the copy", "copy 1", "use 0", "wait for the copy", "copy 2", "use 1"),
        *("wait for the copy", "use 2"),
    ]
