"""InfoNCE and its queues against loops in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anatograph.learning.contrast.info_nce import InfoNCE
from anatograph.learning.contrast.queues import EMPTY, KeyQueue, queue_length


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def by_hand(
    query: torch.Tensor,
    key: torch.Tensor,
    owners: list[int],
    landmarks: list[int],
    queue: dict[int, list[tuple[int, np.ndarray]]],
    temperature: float,
    mask: bool,
    strata: list[int],
) -> tuple[float, float]:
    """Eq. 5 in Python floats, one query and one negative at a time: (loss, accuracy)."""
    q, k = query.detach().double().numpy(), key.detach().double().numpy()
    losses, right = [], []
    for b in range(len(q)):
        positive = math.exp(float(q[b] @ k[b]) / temperature)
        negatives = [
            math.exp(float(q[b] @ vector) / temperature)
            for owner, vector in queue.get(landmarks[b], [])
            if not (mask and owner == owners[b]) and strata[owner] == strata[owners[b]]
        ]
        if negatives:
            losses.append(-math.log(positive / (positive + sum(negatives))))
            right.append(positive > max(negatives))
    return sum(losses) / len(losses), sum(right) / len(right)


@pytest.mark.parametrize("strata", [None, [0, 1, 0, 1]])
@pytest.mark.parametrize(("mask", "in_batch"), [(True, False), (False, False), (True, True)])
def test_loss_equals_eq_5_computed_by_hand(mask: bool, in_batch: bool, strata: list[int] | None) -> None:
    """``in_batch``: the batch's keys enter the queue first, as `contrast_step` has it."""
    rng = np.random.default_rng(5)
    queue = KeyQueue(7, 20, 16, torch.float32, None if strata is None else torch.tensor(strata))
    held: dict[int, list[tuple[int, np.ndarray]]] = {}
    for step in range(6):
        landmarks = rng.integers(0, 5, 9)  # landmarks 5 and 6 never get a key, others fill to different heights
        owners = rng.integers(0, 4, 9)
        keys = unit(9, 16, seed=step)
        queue.enqueue(keys, torch.from_numpy(owners), torch.from_numpy(landmarks))
        for row in range(9):
            ring = held.setdefault(int(landmarks[row]), [])
            ring.append((int(owners[row]), keys[row].double().numpy()))
            del ring[:-20]
    landmarks_b = [0, 3, 3, 1, 6, 0, 4, 6, 5, 2, 2, 2]
    owners_b = [0, 1, 2, 3, 1, 0, 2, 0, 3, 1, 1, 0]
    # Views close together, as training makes them, so that the accuracy is neither 0 nor 1.
    query = unit(12, 16, seed=50)
    key = F.normalize(query + 0.8 * unit(12, 16, seed=51), dim=1)
    if in_batch:
        queue.enqueue(key, torch.tensor(owners_b), torch.tensor(landmarks_b))
        for row in range(12):
            held.setdefault(landmarks_b[row], []).append((owners_b[row], key[row].double().numpy()))
    contrast = InfoNCE(0.2, mask)(query * 3.0, key * 0.5, torch.tensor(owners_b), torch.tensor(landmarks_b), queue)
    loss, accuracy = by_hand(query, key, owners_b, landmarks_b, held, 0.2, mask, strata or [0] * 4)
    assert float(contrast.loss) == pytest.approx(loss, abs=1e-5)
    assert float(contrast.accuracy) == pytest.approx(accuracy, abs=1e-6)
    assert float(contrast.positive) == pytest.approx(float((query * key).sum(1).mean()), abs=1e-6)


def test_with_a_full_queue_of_others_it_is_cross_entropy_over_one_positive_and_the_queue() -> None:
    queue = KeyQueue(1, 32, 8, torch.float32)
    negatives = unit(32, 8, seed=1)
    queue.enqueue(negatives, torch.arange(100, 132))
    query, key = unit(16, 8, seed=2).requires_grad_(), unit(16, 8, seed=3)
    contrast = InfoNCE(0.07)(query, key, torch.arange(16), None, queue)
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ negatives.T], dim=1) / 0.07
    expected = F.cross_entropy(logits, torch.zeros(16, dtype=torch.long))
    torch.testing.assert_close(contrast.loss, expected, atol=1e-5, rtol=1e-5)
    assert float(contrast.negatives) == 32
    # Along the sphere only: the loss normalises its query, the witness does not.
    mine, theirs = (torch.autograd.grad(x, query)[0] for x in (contrast.loss, expected))
    tangent = theirs - (theirs * query).sum(1, keepdim=True) * query
    torch.testing.assert_close(mine, tangent.detach(), atol=1e-5, rtol=1e-4)


def test_gradient_reaches_the_query_alone() -> None:
    queue = KeyQueue(2, 4, 8)
    queue.enqueue(unit(8, 8), torch.arange(8), torch.tensor([0, 1] * 4))
    query, key = unit(4, 8, seed=1).requires_grad_(), unit(4, 8, seed=2).requires_grad_()
    landmarks = torch.tensor([0, 0, 1, 1])
    InfoNCE()(query, key, torch.arange(4), landmarks, queue).loss.backward()
    assert query.grad is not None
    assert float(query.grad.abs().min(dim=1).values.max()) > 0
    assert key.grad is None
    assert not queue.keys.requires_grad


def test_order_of_rows_does_not_matter() -> None:
    queue = KeyQueue(5, 16, 8)
    queue.enqueue(unit(60, 8), torch.arange(60) % 7, torch.arange(60) % 5)
    query, key = unit(20, 8, seed=1), unit(20, 8, seed=2)
    owners, landmarks = torch.arange(20) % 4, torch.arange(20) // 4
    shuffle = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    measure = InfoNCE()
    one = measure(query, key, owners, landmarks, queue)
    two = measure(query[shuffle], key[shuffle], owners[shuffle], landmarks[shuffle], queue)
    torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-6)


def test_random_first_keys_are_negatives_in_every_stratum() -> None:
    queue = KeyQueue(1, 8, 8, strata=torch.tensor([0, 1]))
    queue.fill_random(0)
    queue.enqueue(unit(2, 8), torch.tensor([0, 1]))
    contrast = InfoNCE()(unit(2, 8, seed=1), unit(2, 8, seed=2), torch.tensor([0, 1]), None, queue)
    assert float(contrast.negatives) == 6


def test_no_negatives_means_no_loss_and_no_harm() -> None:
    query = unit(3, 8).requires_grad_()
    contrast = InfoNCE()(query, unit(3, 8, seed=1), torch.arange(3), None, KeyQueue(1, 4, 8))
    assert float(contrast.loss.detach()) == 0
    assert math.isnan(float(contrast.accuracy))
    contrast.loss.backward()
    assert query.grad is not None
    assert bool((query.grad == 0).all())


def test_only_own_keys_in_the_queue_count_as_none() -> None:
    queue = KeyQueue(1, 4, 8)
    queue.enqueue(unit(4, 8), torch.zeros(4))
    query, key = unit(1, 8, seed=1), unit(1, 8, seed=2)
    assert float(InfoNCE()(query, key, torch.tensor([0]), None, queue).negatives) == 0
    assert float(InfoNCE()(query, key, torch.tensor([1]), None, queue).negatives) == 4
    assert float(InfoNCE(mask_same_subject=False)(query, key, torch.tensor([0]), None, queue).negatives) == 4


def test_garbage_in_empty_places_never_shows() -> None:
    queue = KeyQueue(2, 6, 8)
    queue.enqueue(unit(2, 8), torch.tensor([5, 6]), torch.tensor([0, 0]))
    clean = InfoNCE()(unit(2, 8, seed=1), unit(2, 8, seed=2), torch.tensor([0, 1]), torch.tensor([0, 1]), queue)
    queue.keys[queue.owner == EMPTY] = 100.0
    spoiled = InfoNCE()(unit(2, 8, seed=1), unit(2, 8, seed=2), torch.tensor([0, 1]), torch.tensor([0, 1]), queue)
    torch.testing.assert_close(clean, spoiled, atol=0, rtol=0)


@pytest.mark.parametrize("seed", range(20))
def test_queue_is_a_ring_for_each_landmark(seed: int) -> None:
    rng = np.random.default_rng(seed)
    landmarks, length = int(rng.integers(1, 6)), int(rng.integers(1, 9))
    queue = KeyQueue(landmarks, length, 4, torch.float32)
    slots = [[(EMPTY, np.zeros(4))] * length for _ in range(landmarks)]
    pointers = [0] * landmarks
    for step in range(5):
        rows = int(rng.integers(0, 25))  # often more of one landmark than its queue holds
        which, owners = rng.integers(0, landmarks, rows), rng.integers(0, 9, rows)
        keys = unit(rows, 4, seed=100 * seed + step) if rows else torch.zeros(0, 4)
        queue.enqueue(keys * 2.5, torch.from_numpy(owners), torch.from_numpy(which))
        for row in range(rows):
            at = int(which[row])
            slots[at][pointers[at]] = (int(owners[row]), keys[row].numpy())
            pointers[at] = (pointers[at] + 1) % length
    assert queue.pointer.tolist() == pointers
    assert queue.owner.tolist() == [[owner for owner, _ in ring] for ring in slots]
    np.testing.assert_allclose(queue.keys.numpy(), np.array([[v for _, v in ring] for ring in slots]), atol=1e-6)
    assert queue.filled().tolist() == [sum(owner != EMPTY for owner, _ in ring) for ring in slots]


def test_state_dict_resumes_the_queue_bit_by_bit() -> None:
    queue, other = KeyQueue(3, 5, 4), KeyQueue(3, 5, 4)
    queue.enqueue(unit(7, 4), torch.arange(7), torch.arange(7) % 3)
    other.load_state_dict(queue.state_dict())
    for one in (queue, other):
        one.enqueue(unit(4, 4, seed=1), torch.arange(4), torch.tensor([0, 0, 2, 1]))
    assert all(torch.equal(a, b) for a, b in zip(queue.state_dict().values(), other.state_dict().values(), strict=True))


def test_half_precision_changes_the_loss_little() -> None:
    losses = []
    for dtype in (torch.float16, torch.float32):
        queue = KeyQueue(1, 256, 128, dtype)
        queue.enqueue(unit(256, 128), torch.arange(256) + 50)
        losses.append(
            float(InfoNCE()(unit(32, 128, seed=1), unit(32, 128, seed=2), torch.arange(32), None, queue).loss)
        )
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_queue_is_no_longer_than_a_small_cohort_needs() -> None:
    assert queue_length(4096, 9180) == 4096
    assert queue_length(4096, 60, keys_per_subject=4) == 240


def test_mistaken_calls_say_so() -> None:
    with pytest.raises(ValueError, match="owners"):
        InfoNCE()(unit(2, 4), unit(2, 4), torch.arange(3), None, KeyQueue(1, 4, 4))
    with pytest.raises(ValueError, match="owners"):
        KeyQueue(1, 4, 4).enqueue(unit(3, 4), torch.arange(2))
