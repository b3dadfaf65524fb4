"""A complete separation of few subjects is not certain."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from anatograph.evaluation.headline import headline, lowest_auc
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.targets import Target


@pytest.mark.parametrize(("few", "many"), [(1, 5), (2, 3), (2, 5), (3, 5), (4, 4), (4, 5), (5, 20)])
def test_the_interval_agrees_with_the_exact_test_whether_few_subjects_beat_chance(few: int, many: int) -> None:
    by_chance = 1 / comb(few + many, few)  # of all orders of the subjects, one separates the classes
    assert (lowest_auc(few, many) > 0.5) == (by_chance < 0.025)


def test_more_subjects_narrow_it() -> None:
    ends = [lowest_auc(n, n) for n in (3, 10, 30, 100)]
    assert ends == sorted(ends)
    assert ends[-1] > 0.95
    assert np.isnan(lowest_auc(0, 5))


def separated(n: int, right: bool) -> tuple[Target, Predictions]:
    values = np.array([0.0, 0.0, *[1.0] * (n - 2)])
    sure = np.where(values == 1, 0.9, 0.1) if right else np.where(values == 1, 0.1, 0.9)
    target = Target("ill", "classification", np.arange(n), values, ("no", "yes"))
    return target, Predictions(np.arange(n) % 2, np.rint(sure), np.stack([1 - sure, sure], axis=1), np.ones(n))


def test_five_subjects_do_not_prove_a_probe() -> None:
    found = headline(*separated(5, True))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low < 0.5
    assert not found.better_than_chance
    wrong = headline(*separated(5, False))
    assert (wrong.value, wrong.low) == (0.0, 0.0)
    assert wrong.high == pytest.approx(1 - found.low)
    assert headline(*separated(30, True)).better_than_chance
