"""Locally linear embedding from dissimilarities alone, with out-of-sample extension."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

REGULARISATION = 1e-3


class LocallyLinearEmbedding:
    """Roweis and Saul (2000) from dissimilarities; for Euclidean distances what scikit-learn gives from points.

    An item is described by weights of its neighbours. These need only the inner products of the neighbours relative to
    the item, which follow from squared dissimilarities: C_jk = (d_ij² + d_ik² - d_jk²) / 2. A new item gets its
    weights from its dissimilarities to the fitted ones and is placed at the same weighted mean of their coordinates;
    the fitted coordinates do not change.
    """

    def __init__(self, squared: NDArray[np.float64], neighbours: int, components: int) -> None:
        """Fit on squared dissimilarities (n, n), symmetric, 0 on the diagonal.

        Raises:
            ValueError: not 1 <= components < n or not 1 <= neighbours < n.
        """
        count = len(squared)
        if not (1 <= components < count and 1 <= neighbours < count):
            raise ValueError(f"{components} components from {neighbours} neighbours need more than {count} items")
        self.squared = squared
        self.neighbours = neighbours
        mixture = np.zeros((count, count))
        for i in range(count):
            order = np.argsort(squared[i], kind="stable")
            near = order[order != i][:neighbours]
            mixture[i, near] = self._weights(squared[i, near], near)
        residual = np.eye(count) - mixture
        _, vectors = linalg.eigh(residual.T @ residual, subset_by_index=(1, components))
        # Eigenvectors are defined up to sign; fix it so that the largest entry is positive on every machine.
        largest = np.abs(vectors).argmax(axis=0)
        signs = np.sign(vectors[largest, np.arange(components)])
        self.places: NDArray[np.float64] = vectors * np.where(signs == 0, 1.0, signs) * np.sqrt(count)
        """(n, components), unit variance."""

    def place(self, squared: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m, components) coordinates of new items from their squared dissimilarities (m, n) to the fitted ones."""
        placed = np.empty((len(squared), self.places.shape[1]))
        for i, row in enumerate(squared):
            near = np.argsort(row, kind="stable")[: self.neighbours]
            placed[i] = self._weights(row[near], near) @ self.places[near]
        return placed

    def _weights(self, to_near: NDArray[np.float64], near: NDArray[np.intp]) -> NDArray[np.float64]:
        """Weights of the neighbours, summing to 1, that best reconstruct an item at squared distances ``to_near``."""
        products = (to_near[:, None] + to_near[None, :] - self.squared[np.ix_(near, near)]) / 2
        trace = float(np.trace(products))
        products = products + np.eye(len(near)) * (REGULARISATION * trace if trace > 0 else REGULARISATION)
        # Dissimilarities that no point configuration realises make the Gram matrix indefinite; shift its spectrum.
        lowest = float(linalg.eigvalsh(products, subset_by_index=(0, 0))[0])
        if lowest <= 0:
            products += np.eye(len(near)) * (1e-3 * abs(trace) - lowest + 1e-12)
        weights = linalg.solve(products, np.ones(len(near)), assume_a="pos")
        return np.asarray(weights / weights.sum(), dtype=np.float64)
