"""Cohort tables from public archives as they lie on disk after unpacking."""
