"""Embeddings, probes, explanations, and the report."""
