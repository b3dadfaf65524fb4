"""The smooth probe: its metric, its closed form, and what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import fractional_matrix_power
from sklearn.metrics import roc_auc_score

from anatograph.embedding.regions import Regions
from anatograph.errors import UserError
from anatograph.evaluation.probes.linear import fit_probe
from anatograph.explanation.smooth_metric import smooth_metric
from anatograph.learning.model.whitening import FLOOR

Array = NDArray[np.float64]


class Held:
    """Regions in memory."""

    def __init__(self, nodes: Array) -> None:
        self.nodes = nodes.astype(np.float32)

    def of(self, name: str) -> NDArray[np.float32]:
        return self.nodes[int(name)].copy()


def held(nodes: Array) -> tuple[Regions, list[str]]:
    return cast("Regions", Held(nodes)), [str(row) for row in range(len(nodes))]


def drawn(count: int = 90, landmarks: int = 60, seed: int = 0) -> tuple[Array, NDArray[np.bool_], Array]:
    """Nodes (S, N, F), which of them are sick, and the extent: a small signal in two features, one of them noisy."""
    random = np.random.default_rng(seed)
    share = random.uniform(0, 0.5, count) * (random.random(count) < 0.6)
    sick = random.random((count, landmarks)) < share[:, None]
    extent = sick.mean(axis=1)
    nodes = random.normal(0, 0.3, (count, landmarks, 24))
    nodes += random.normal(0, 1, (landmarks, 24))  # places differ
    nodes[:, :, 0] += sick
    nodes[:, :, 1] += 2 * sick + random.normal(0, 4, (count, landmarks))
    about = 2 * extent + random.normal(0, 0.08, count)
    nodes[:, :, 1] += about[:, None] - nodes[:, :, 1].mean(axis=1, keepdims=True)  # the scatter averages out
    return nodes, sick, extent


def test_the_metric_is_the_inverse_root_of_the_covariance_within_subjects() -> None:
    nodes, _, _ = drawn()
    nodes[3, 5] = np.nan
    regions, names = held(nodes)
    rows = nodes - np.nanmean(nodes, axis=0)
    rows -= np.nanmean(rows, axis=1, keepdims=True)
    rows = rows.reshape(-1, 24)
    covariance = np.cov(rows[np.isfinite(rows).all(axis=1)].T, bias=True)
    wanted = fractional_matrix_power(covariance + FLOOR * np.trace(covariance) / 24 * np.eye(24), -0.5)
    np.testing.assert_allclose(smooth_metric(regions, names), wanted, rtol=1e-3, atol=1e-3)


def test_a_metric_penalises_what_it_says() -> None:
    """The weights are those of the closed form min |y - Xw|² + λ n s² wᵀ metric⁻² w at the strength that was chosen."""
    nodes, _, extent = drawn()
    metric = smooth_metric(*held(nodes))
    subjects = nodes.mean(axis=1)
    probe = fit_probe(subjects, extent, 0, metric=metric)
    x, y = subjects - subjects.mean(axis=0), extent - extent.mean()
    scale = (x @ metric).var(axis=0).mean()
    inverse = np.linalg.inv(metric)
    wanted = np.linalg.solve(x.T @ x + probe.strength * len(x) * scale * inverse @ inverse, x.T @ y)
    np.testing.assert_allclose(probe.weights[0], wanted, rtol=1e-6, atol=1e-9)


def auc_and_error(nodes: Array, sick: NDArray[np.bool_], target: Array, metric: Any) -> tuple[float, float]:
    half = len(nodes) // 2
    classes = 2 if target.dtype == bool else 0
    subjects = nodes.mean(axis=1)
    probe = fit_probe(subjects[:half], target[:half].astype(float), classes, metric=metric)
    relative = (nodes[half:] - np.median(nodes[:half], axis=0)) @ probe.weights[0]
    wrong = probe.predict(subjects[half:]) - target[half:]
    return float(roc_auc_score(sick[half:].ravel(), relative.ravel())), float((wrong**2).mean())


def test_of_two_features_that_tell_as_much_the_one_with_the_calm_map_is_taken() -> None:
    """Feature 1 tells the extent as well as feature 0 but scatters; with 0 alone the map finds the sick regions."""
    nodes, sick, extent = drawn(180)
    metric = smooth_metric(*held(nodes[:90]))
    for target in (extent, extent > 0.1):
        plain, smooth = auc_and_error(nodes, sick, target, None), auc_and_error(nodes, sick, target, metric)
        assert plain[0] < 0.8, plain
        assert smooth[0] > 0.95, smooth
        assert smooth[1] < plain[1] + 0.02, (plain, smooth)


def test_a_store_on_disk_gives_the_same(tmp_path: Path) -> None:
    from anatograph.embedding.regions import RegionRows

    nodes, _, _ = drawn(12)
    rows = RegionRows.create(tmp_path / ".making", 12, 60, 24)
    for row in range(12):
        rows.write(row, nodes[row].astype(np.float32))
    names = [str(row) for row in range(12)]
    rows.finish(tmp_path / "emb.regions.zarr", names, {})
    found = smooth_metric(Regions(tmp_path / "emb.regions.zarr"), names)
    np.testing.assert_array_equal(found, smooth_metric(*held(nodes)))


def test_whitening_is_kept_with_the_regions_and_can_be_undone(tmp_path: Path) -> None:
    from anatograph.embedding.regions import RegionRows
    from anatograph.learning.model.whitening import whitening

    nodes, _, _ = drawn(12)
    matrix = whitening(nodes)
    for name, attributes in (("plain", {}), ("white", {"whitening": matrix.tolist()})):
        rows = RegionRows.create(tmp_path / f".{name}", 12, 60, 24)
        for row in range(12):
            rows.write(row, (nodes[row] @ matrix).astype(np.float32))
        rows.finish(tmp_path / f"{name}.regions.zarr", [str(row) for row in range(12)], attributes)
    white = Regions(tmp_path / "white.regions.zarr")
    np.testing.assert_allclose(white.unwhitened("3"), nodes[3], atol=1e-3)
    np.testing.assert_array_equal(Regions(tmp_path / "plain.regions.zarr").unwhitened("3"), white.of("3"))


def test_a_whitening_that_is_none_is_refused(tmp_path: Path) -> None:
    from anatograph.embedding.regions import RegionRows

    for number, wrong in enumerate(([[1.0]], "x", np.zeros((24, 24)).tolist())):
        rows = RegionRows.create(tmp_path / f".{number}", 1, 60, 24)
        rows.finish(tmp_path / f"{number}.regions.zarr", ["p"], {"whitening": wrong})
        with pytest.raises(UserError, match="embed the study again"):
            Regions(tmp_path / f"{number}.regions.zarr")
