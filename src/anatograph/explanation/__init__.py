"""Contribution, deviation, change and similarity."""
