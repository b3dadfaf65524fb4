"""The anatomy of the synthetic thorax, and drawing it."""
