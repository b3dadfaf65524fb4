"""Pooling that keeps place: what its parts are, that they depend on the atlas alone, and absent landmarks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from anatograph.anatomy.atlas import default_atlas
from anatograph.choices import PoolingRule
from anatograph.errors import UserError
from anatograph.learning.model.pooling import PoolingSettings, harmonics, make_pooling, settings_from

Array = NDArray[np.float64]
ATLAS = np.asarray(default_atlas().landmarks)
RULES: tuple[PoolingRule, ...] = ("mean", "harmonics", "moments", "zones")


def box(*counts: int, step: float = 26.0) -> Array:
    """A grid of landmarks along L, P and S."""
    return step * np.array(list(itertools.product(*map(range, counts))), dtype=np.float64)


def test_the_first_part_is_the_mean_of_eq_7() -> None:
    nodes = np.random.default_rng(0).normal(size=(len(ATLAS), 5)).astype(np.float32)
    nodes[::7] = np.nan
    for rule in RULES:
        pooled = make_pooling(PoolingSettings(rule), ATLAS).pool(nodes)
        np.testing.assert_allclose(pooled[:5], np.nanmean(nodes.astype(np.float64), axis=0), rtol=1e-12)
        assert len(pooled) == 5 * {"mean": 1, "harmonics": 4, "moments": 4, "zones": 7}[rule]


def test_harmonics_of_a_path_are_cosines() -> None:
    """The eigenvectors of a path graph are known: cos(π m (j + ½) / N)."""
    points = box(1, 1, 9)
    angle = np.pi * (np.arange(9) + 0.5) / 9
    found = harmonics(points, 4)
    for m in range(4):
        wanted = np.cos(m * angle)
        wanted /= np.sqrt((wanted**2).mean())
        assert abs(found[m] @ wanted) / 9 == pytest.approx(1, abs=1e-6)
    assert found[1, -1] > 0  # upper is high


def test_harmonics_are_orthogonal_smooth_and_of_unit_mean_square() -> None:
    found = harmonics(ATLAS, 8)
    np.testing.assert_allclose(found @ found.T / len(ATLAS), np.eye(8), atol=1e-6)
    pooling = make_pooling(PoolingSettings("harmonics"), ATLAS)
    assert pooling.meanings[:3] == (
        "mean over the lungs", "harmonic 1: left minus right", "harmonic 2: upper minus lower",
    )  # fmt: skip


def test_harmonics_do_not_depend_on_the_order_of_landmarks_nor_on_where_the_atlas_lies() -> None:
    order = np.random.default_rng(1).permutation(len(ATLAS))
    first = harmonics(ATLAS, 6)
    np.testing.assert_allclose(harmonics(ATLAS[order], 6), first[:, order], atol=1e-6)
    np.testing.assert_allclose(harmonics(ATLAS + np.array([100.0, -50.0, 7.0]), 6), first, atol=1e-6)


def test_equal_eigenvalues_have_a_fixed_basis() -> None:
    """A square has two harmonics of the same frequency: they are its axes, whatever a solver returns."""
    found = harmonics(box(4, 1, 4), 3)
    points = box(4, 1, 4)
    for m, axis in ((1, 2), (2, 0)):
        assert np.corrcoef(found[m], points[:, axis])[0, 1] > 0.97


def test_an_atlas_in_two_pieces_separates_left_from_right() -> None:
    apart = np.vstack([box(2, 2, 3), box(2, 2, 3) + np.array([200.0, 0.0, 0.0])])
    found = harmonics(apart, 2)[1]
    assert (found[:12] < -0.5).all()
    assert (found[12:] > 0.5).all()


@pytest.mark.parametrize("rule", RULES)
def test_absent_landmarks_take_the_mean_of_the_others(rule: PoolingRule) -> None:
    random = np.random.default_rng(2)
    nodes = random.normal(size=(len(ATLAS), 3))
    nodes[ATLAS[:, 2] < np.quantile(ATLAS[:, 2], 0.2)] = np.nan
    pooling = make_pooling(PoolingSettings(rule), ATLAS)
    filled = np.where(np.isfinite(nodes), nodes, np.nanmean(nodes, axis=0))
    np.testing.assert_allclose(pooling.pool(nodes), pooling.pool(filled), atol=1e-10)
    # A lung that is the same everywhere has no place, however much of it was scanned.
    same = np.where(np.isfinite(nodes), 5.0, np.nan)
    np.testing.assert_allclose(pooling.pool(same)[3:], 0, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_contributions_sum_to_the_answer(rule: PoolingRule) -> None:
    """Eq. 10: the mean of M_j = Σ_m a_m(j) W_m · h'_j is W · S', with landmarks absent too."""
    random = np.random.default_rng(3)
    nodes = random.normal(size=(len(ATLAS), 4))
    nodes[5:90] = np.nan
    pooling = make_pooling(PoolingSettings(rule), ATLAS)
    weights = random.normal(size=pooling.parts * 4)
    each = pooling.contributions(weights, nodes)
    assert np.isnan(each[5:90]).all()
    assert np.nanmean(each) == pytest.approx(weights @ pooling.pool(nodes), abs=1e-10)


def test_where_something_is_reaches_the_vector() -> None:
    """The same amount of disease above or below has one mean, and opposite parts of place."""
    upper = ATLAS[:, 2] > np.quantile(ATLAS[:, 2], 0.7)
    lower = ATLAS[:, 2] < np.quantile(ATLAS[:, 2], 0.3)
    lower[np.flatnonzero(lower)[upper.sum() :]] = False
    upper[np.flatnonzero(upper)[lower.sum() :]] = False
    pooling = make_pooling(PoolingSettings("harmonics"), ATLAS)
    high, low = (pooling.pool(place.astype(float)[:, None]) for place in (upper, lower))
    assert high[0] == pytest.approx(low[0])
    assert high[2] > 0.2
    assert low[2] < -0.2


def test_settings_that_cannot_be() -> None:
    with pytest.raises(UserError, match="mean, harmonics, moments, zones"):
        PoolingSettings("median")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="between 1 and 64"):
        PoolingSettings("harmonics", 65)
    with pytest.raises(ValueError, match="do not fit an atlas"):
        make_pooling(PoolingSettings(), ATLAS).pool(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="none of the subject's landmarks"):
        make_pooling(PoolingSettings(), ATLAS).pool(np.full((len(ATLAS), 2), np.nan))
    assert settings_from(None) == PoolingSettings("mean")
    assert settings_from(make_pooling(PoolingSettings("zones"), ATLAS).about(8)) == PoolingSettings("zones")
