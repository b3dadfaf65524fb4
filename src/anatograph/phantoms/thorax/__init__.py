"""The anatomy of the synthetic thorax: shape, lobes, and the trees of the lungs."""
