"""Sampler, stages, trainer, checkpoints, monitoring."""
