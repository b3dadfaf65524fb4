"""Estimators and maps against scikit-learn, scipy, torch and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y
from sklearn.manifold import LocallyLinearEmbedding as SklearnLLE
from sklearn.neighbors import NearestNeighbors

from anatograph.baselines.features.cubes import resized
from anatograph.baselines.features.density_figures import FIGURES, density_figures
from anatograph.baselines.features.knn_divergence import divergence, divergences
from anatograph.baselines.features.locally_linear import LocallyLinearEmbedding
from anatograph.baselines.features.supervoxels import _harmonics, harmonic_lengths
from anatograph.baselines.methods.divergence import symmetric


def gaussian_divergence(mean: np.ndarray, spread: float, d: int) -> float:
    """D(N(0, I) ‖ N(mean, spread² I)) in nats."""
    return 0.5 * (d / spread**2 + mean @ mean / spread**2 - d + d * np.log(spread**2))


@pytest.mark.parametrize(("d", "shift", "spread"), [(1, 1.0, 1.0), (2, 0.5, 1.5), (3, 0.5, 1.3)])
def test_divergence_of_gaussians_is_that_of_the_closed_form(d: int, shift: float, spread: float) -> None:
    mean, runs = np.full(d, shift), 6
    truth = gaussian_divergence(mean, spread, d)
    for n in (150, 1000):
        random = np.random.default_rng(n)
        found = [
            divergence(random.normal(size=(n, d)), mean + spread * random.normal(size=(n, d))) for _ in range(runs)
        ]
        # Four standard errors, and a bias of the order of the distance to the fifth neighbour.
        assert abs(np.mean(found) - truth) < 4 * np.std(found) / np.sqrt(runs) + (5 / n) ** (1 / d)


def test_divergence_is_the_formula_on_the_neighbours_that_scikit_learn_finds() -> None:
    random = np.random.default_rng(0)
    clouds = [random.normal(size=(n, 6)) + k for k, n in enumerate((40, 55, 31))]
    found = divergences(clouds, k=3)
    for i, x in enumerate(clouds):
        for j, y in enumerate(clouds):
            if i == j:
                assert found[i, j] == 0
                continue
            rho = NearestNeighbors(n_neighbors=4).fit(x).kneighbors(x)[0][:, 3]
            nu = NearestNeighbors(n_neighbors=3).fit(y).kneighbors(x)[0][:, 2]
            expected = 6 * np.log(nu / rho).mean() + np.log(len(y) / (len(x) - 1))
            assert abs(found[i, j] - expected) < 1e-9
    with pytest.raises(ValueError, match="more than 3 points"):
        divergences([clouds[0], clouds[1][:3]], k=3)


def test_an_entry_depends_on_its_two_clouds_alone() -> None:
    random = np.random.default_rng(0)
    clouds = [random.normal(size=(30, 4)) for _ in range(4)]
    both = divergences(clouds[:2], 5)
    assert np.array_equal(both, divergences([*clouds[:2], *clouds[2:]], 5)[:2, :2])
    assert np.isfinite(divergences([np.zeros((8, 3)), np.zeros((9, 3))], 2)).all()  # identical points


def test_symmetrised_divergence_is_the_squared_distance_of_gaussian_means() -> None:
    random = np.random.default_rng(3)
    x, y = random.normal(size=(1500, 2)), random.normal([0.6, 0.3], size=(1500, 2))
    assert abs(symmetric(divergences([x, y], 5))[0, 1] - 0.45) < 2 * (5 / 1500) ** 0.5  # the bias of either direction


def test_embedding_from_distances_is_scikit_learns_from_points_newcomers_too() -> None:
    random = np.random.default_rng(0)
    points, new = random.normal(size=(60, 3)), random.normal(size=(5, 3))
    points[:, 2] = points[:, 0] ** 2
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    ours = LocallyLinearEmbedding(squared, 8, 2)
    theirs = SklearnLLE(n_neighbors=8, n_components=2, eigen_solver="dense").fit(points)
    signs = np.sign((ours.places * theirs.embedding_).sum(axis=0)) * np.sqrt(60)
    np.testing.assert_allclose(ours.places, theirs.embedding_ * signs, atol=1e-7)
    to_fitted = ((new[:, None] - points[None]) ** 2).sum(-1)
    np.testing.assert_allclose(ours.place(to_fitted), theirs.transform(new) * signs, atol=1e-7)
    np.testing.assert_allclose(ours.places.var(axis=0), 1.0, atol=1e-9)


def test_non_euclidean_dissimilarities_are_handled() -> None:
    random = np.random.default_rng(0)
    squared = random.random((20, 20))
    squared = squared + squared.T
    np.fill_diagonal(squared, 0)
    places = LocallyLinearEmbedding(squared, 7, 5).place(random.random((3, 20)))
    assert np.isfinite(places).all()
    with pytest.raises(ValueError, match="need more than"):
        LocallyLinearEmbedding(squared[:4, :4], 4, 2)


def test_harmonics_span_scipys_and_have_unit_power() -> None:
    unit = np.random.default_rng(0).normal(size=(300, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    angle, about = np.arccos(unit[:, 2]), np.arctan2(unit[:, 1], unit[:, 0])
    for degree, functions in enumerate(_harmonics(unit.astype(np.float32).astype(np.float64))):
        assert len(functions) == 2 * degree + 1
        np.testing.assert_allclose(sum(f**2 for f in functions), 2 * degree + 1, rtol=1e-5)
        complex_ones = np.stack([sph_harm_y(degree, m, angle, about) for m in range(-degree, degree + 1)], 1)
        basis = np.concatenate([complex_ones.real, complex_ones.imag], 1)
        for f in functions:
            assert np.abs(basis @ np.linalg.lstsq(basis, f, rcond=None)[0] - f).max() < 1e-5


def test_gradient_features_are_rotation_invariant() -> None:
    random = np.random.default_rng(0)
    gradient = random.normal(size=(500, 3)) * [3, 1, 0.3]
    label = random.integers(0, 4, 500)
    before = harmonic_lengths(gradient.astype(np.float32), label, 4)
    turned = Rotation.random(rng=np.random.default_rng(1)).apply(gradient).astype(np.float32)
    np.testing.assert_allclose(harmonic_lengths(turned, label, 4), before, rtol=1e-4)
    np.testing.assert_allclose(
        before[:, 0], [np.linalg.norm(gradient[label == k], axis=1).mean() for k in range(4)], rtol=1e-5
    )
    assert before[:, 2].min() > 0.3 * before[:, 0].min()  # an uneven cloud is not taken for a round one


@pytest.mark.parametrize(("old", "new"), [((40, 37), (16, 16)), ((9, 12), (16, 30)), ((20, 20), (20, 7))])
def test_resizing_is_torchs_antialiased_one(old: tuple[int, int], new: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).normal(size=old).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(picture)[None, None], new, mode="bilinear", antialias=True, align_corners=False
    )
    np.testing.assert_allclose(resized(picture, new), theirs[0, 0].numpy(), atol=1e-5)


def test_density_figures_use_unclipped_voxels() -> None:
    hu = np.concatenate([np.full(30, -1020), np.full(20, -951), np.full(20, -950), np.full(20, -905), np.full(10, 900)])
    figures = dict(zip(FIGURES, density_figures(hu.astype(np.int16), 2.0), strict=True))
    assert figures["LAA-950"] == 0.5
    assert figures["LAA-910"] == 0.7
    assert figures["Perc15"] == -1020
    assert figures["Perc50"] == -950.5
    assert figures["Perc99"] == 900
    assert figures["volume"] == pytest.approx(200e-6)
    assert figures["mean"] == pytest.approx(hu.mean())
    assert figures["sd"] == pytest.approx(hu.std())
