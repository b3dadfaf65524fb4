"""The graph against the published one, against scipy and against first principles."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from anatograph.anatomy.graph import GraphSettings, edges, graph_quality, overlap_fractions
from anatograph.errors import UserError


def lattice(shape: tuple[int, int, int] = (6, 7, 8), step: float = 26.0) -> NDArray[np.float64]:
    return np.stack(np.meshgrid(*[np.arange(n) * step for n in shape], indexing="ij"), -1).reshape(-1, 3)


def pairs(edge_list: NDArray[np.int32]) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in edge_list}


def test_overlap_rule_gives_the_published_graph(shared: Path) -> None:
    published = np.load(shared / "conformance" / "adjacency.npz")
    corners = published["landmarks_voxel"].astype(float)
    np.testing.assert_allclose(overlap_fractions(corners), published["overlap"], atol=1e-7)
    found = edges(corners + 16, corners, rule="overlap")
    assert pairs(found) == {(min(a, b), max(a, b)) for a, b in published["edges"].tolist()}
    assert len(found) == 1398


@pytest.mark.parametrize("rho", [26.5, 39.0, 52.0])
def test_distance_rule_is_equation_3(rho: float) -> None:
    points = np.random.default_rng(3).uniform(0, 200, (300, 3))
    below = squareform(pdist(points)) < rho
    expected = {(int(j), int(k)) for j, k in np.argwhere(below) if j < k}
    found = edges(points, np.zeros_like(points), rule="distance", rho=rho)
    assert pairs(found) == expected
    assert (found[:, 0] < found[:, 1]).all()


def test_distance_at_the_threshold_is_no_edge() -> None:
    points = np.array([[0, 0, 0], [26, 0, 0], [0, 25.999, 0]])
    assert pairs(edges(points, points, rule="distance", rho=26.0)) == {(0, 2)}


def test_default_rho_joins_a_place_with_the_six_beside_it() -> None:
    points = lattice((3, 3, 3))
    graph = nx.Graph(edges(points, points).tolist())
    assert graph.degree[13] == 6  # the middle one
    wider = nx.Graph(edges(points, points, rule="distance").tolist())
    assert wider.degree[13] == 18
    finer = edges(points / 2, points / 2, step=13.0)
    assert pairs(finer) == pairs(edges(points, points))


def test_atlas_rule_gives_every_subject_the_same_edges() -> None:
    atlas = lattice()
    warped = atlas * [0.7, 1.3, 1.0] + np.random.default_rng(0).normal(0, 8, atlas.shape)
    np.testing.assert_array_equal(edges(warped, atlas), edges(atlas, atlas))


@pytest.mark.parametrize("scale", [0.85, 1.0, 1.08, 1.15])
def test_a_larger_or_smaller_lung_keeps_its_graph_by_default(scale: float) -> None:
    """The published rule loses every edge of a lung 8 % larger than the atlas; the default must not."""
    atlas = lattice()
    figures = graph_quality(edges(atlas * scale, atlas), len(atlas))
    assert figures["isolated_nodes"] == 0
    assert figures["components"] == 1
    published = graph_quality(edges(atlas * scale, atlas, rule="overlap"), len(atlas))
    assert (published["edges"] == 0) == (scale >= 1.08)
    if scale >= 1.08:
        assert published["isolated_nodes"] == len(atlas)


def test_distance_rule_with_the_default_rho_keeps_a_15_percent_change_connected() -> None:
    atlas = lattice()
    for scale in (0.85, 1.15):
        assert graph_quality(edges(atlas * scale, atlas, rule="distance"), len(atlas))["components"] == 1


def test_quality_agrees_with_networkx() -> None:
    points = np.random.default_rng(1).uniform(0, 150, (60, 3))
    found = edges(points, points, rule="distance", rho=30.0)
    graph = nx.Graph()
    graph.add_nodes_from(range(60))
    graph.add_edges_from(found.tolist())
    assert graph_quality(found, 60) == {
        "edges": graph.number_of_edges(),
        "isolated_nodes": nx.number_of_isolates(graph),
        "components": nx.number_connected_components(graph),
    }


def test_no_edges_is_a_graph_too() -> None:
    points = np.array([[0.0, 0, 0], [500, 0, 0]])
    found = edges(points, points)
    assert found.shape == (0, 2)
    assert graph_quality(found, 2) == {"edges": 0, "isolated_nodes": 2, "components": 2}


@pytest.mark.parametrize("wrong", [{"rule": "nearest"}, {"rho": -1.0}, {"rho": float("nan")}, {"min_overlap": 1.0}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        GraphSettings(**wrong)  # type: ignore[arg-type]
