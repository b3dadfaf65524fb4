"""Message passing against torch_geometric and against eq. 6 written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anatograph.learning.model.graphs import make_graphs
from anatograph.learning.model.networks import GraphNetwork


def random_edges(landmarks: int, count: int, seed: int) -> NDArray[np.int64]:
    """Distinct pairs j < k; the last landmark stays isolated."""
    pairs = np.argwhere(np.triu(np.ones((landmarks - 1, landmarks - 1)), 1))
    return np.random.default_rng(seed).permutation(pairs)[:count]


def test_graph_convolution_equals_torch_geometric() -> None:
    gcn = pytest.importorskip("torch_geometric.nn").GCNConv(16, 16)
    torch.manual_seed(0)
    torch.nn.init.normal_(gcn.bias)
    ours = GraphNetwork(16, "none")
    ours.load_state_dict({"weight": gcn.lin.weight.detach(), "bias": gcn.bias.detach()})
    edges = [random_edges(30, 60, 1), random_edges(30, 20, 2), np.zeros((0, 2), dtype=np.int64)]
    h = torch.randn(3, 30, 16, requires_grad=True)
    nodes = ours(h, make_graphs(edges, 30))
    (mine,) = torch.autograd.grad(nodes.square().sum(), h)
    for s, pairs in enumerate(edges):
        both = torch.from_numpy(np.concatenate([pairs, pairs[:, ::-1]]).T.copy())
        theirs = torch.nn.functional.elu(gcn(h[s], both))
        torch.testing.assert_close(nodes[s], theirs, atol=1e-5, rtol=1e-5)
        (gradient,) = torch.autograd.grad(theirs.square().sum(), h)
        torch.testing.assert_close(mine[s], gradient[s], atol=1e-4, rtol=1e-4)


def test_weights_of_its_own_equal_torch_geometric_and_a_dense_layer() -> None:
    gcn = pytest.importorskip("torch_geometric.nn").GCNConv(16, 16)
    own = torch.nn.Linear(16, 16, bias=False)
    ours = GraphNetwork(16, "none", own=True)
    weights = {"weight": gcn.lin.weight, "bias": gcn.bias, "own_weight": own.weight}
    ours.load_state_dict({name: value.detach() for name, value in weights.items()})
    pairs = random_edges(30, 60, 1)
    h = torch.randn(1, 30, 16)
    both = torch.from_numpy(np.concatenate([pairs, pairs[:, ::-1]]).T.copy())
    theirs = torch.nn.functional.elu(gcn(h[0], both) + own(h[0]))
    torch.testing.assert_close(ours(h, make_graphs([pairs], 30))[0], theirs, atol=1e-5, rtol=1e-5)


def test_weights_are_the_symmetric_normalisation_of_eq_6() -> None:
    pairs = random_edges(12, 20, 3)
    adjacency = np.eye(12)
    adjacency[pairs[:, 0], pairs[:, 1]] = adjacency[pairs[:, 1], pairs[:, 0]] = 1
    root = np.diag(adjacency.sum(1) ** -0.5)
    graphs = make_graphs([pairs], 12)
    np.testing.assert_allclose(graphs.dense()[0].numpy(), root @ adjacency @ root, atol=1e-7)
    h = torch.randn(1, 12, 4)
    torch.testing.assert_close(graphs.propagate(h)[0], graphs.dense()[0] @ h[0])


def test_an_edge_counts_once_however_it_is_given() -> None:
    once = make_graphs([[(0, 1), (1, 2)]], 4).dense()
    again = make_graphs([[(1, 0), (0, 1), (1, 2), (1, 2), (3, 3)]], 4).dense()
    torch.testing.assert_close(once, again, atol=0, rtol=0)


def test_what_an_absent_landmark_holds_reaches_no_weight_of_its_own() -> None:
    network = GraphNetwork(8, own=True).train()
    present = np.ones((1, 20), dtype=bool)
    present[0, 3] = False
    h = torch.randn(1, 20, 8)
    h[0, 3] = float("nan")
    nodes = network(h, make_graphs([random_edges(20, 50, 4)], 20, present))
    nodes.sum().backward()
    assert bool(nodes.isfinite().all())
    assert network.own_weight is not None
    assert network.own_weight.grad is not None
    assert bool(network.own_weight.grad.isfinite().all())


def test_an_absent_landmark_is_as_if_it_were_not_there() -> None:
    torch.manual_seed(1)
    network = GraphNetwork(8).train()
    pairs = random_edges(20, 50, 4)
    present = np.ones((2, 20), dtype=bool)
    present[0, [2, 5, 11]] = False
    h = torch.randn(2, 20, 8)
    spoiled = h.masked_fill(~torch.from_numpy(present)[..., None], float("nan"))
    nodes = network(spoiled, make_graphs([pairs, pairs], 20, present))
    nodes.sum().backward()
    assert network.weight.grad is not None
    assert bool(network.weight.grad.isfinite().all())
    statistics = [network.norm.running_mean.clone(), network.norm.running_var.clone()]

    # The witness: the first subject's graph cut out and renumbered, both subjects in one batch of plain rows.
    kept = np.flatnonzero(present[0])
    number = np.full(20, -1)
    number[kept] = np.arange(17)
    inside = pairs[present[0][pairs].all(1)]
    rows = [make_graphs([number[inside]], 17).dense()[0] @ h[0, kept], make_graphs([pairs], 20).dense()[0] @ h[1]]
    network.norm.reset_running_stats()
    plain = torch.nn.functional.elu(network.norm(torch.cat(rows) @ network.weight.T + network.bias))
    torch.testing.assert_close(nodes[0, kept], plain[:17], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(nodes[1], plain[17:], atol=1e-5, rtol=1e-5)
    assert bool((nodes[0, [2, 5, 11]] == 0).all())
    torch.testing.assert_close(statistics[0], network.norm.running_mean)
    torch.testing.assert_close(statistics[1], network.norm.running_var)


def test_an_impossible_edge_is_refused() -> None:
    with pytest.raises(ValueError, match="landmark 7"):
        make_graphs([[(0, 7)]], 7)
    with pytest.raises(ValueError, match="do not fit"):
        make_graphs([[(0, 1)]], 7).propagate(torch.zeros(2, 7, 3))


def test_the_published_graph(shared: object) -> None:
    file = np.load(f"{shared}/conformance/adjacency.npz")
    dense = make_graphs([file["edges"]], 581).dense()[0].numpy()
    full = (file["overlap"] > 0.13).astype(np.float64)
    np.fill_diagonal(full, 1.0)
    root = full.sum(1) ** -0.5
    np.testing.assert_allclose(dense, full * root[:, None] * root[None], atol=1e-6)
