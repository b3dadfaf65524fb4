"""Subjects and regions as vectors, and their tables."""
