"""Anatomy-aware embeddings of chest CT: contrastive learning on graphs of registered patches."""

__version__ = "0.1.0"
