"""Targets, folds, probes and scores."""
