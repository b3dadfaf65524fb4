"""Probes on disk, and their predictions for new subjects."""
