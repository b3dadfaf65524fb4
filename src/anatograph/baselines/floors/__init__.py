"""Rows that need no scan: what every other row has to exceed."""

FLOORS = ("majority", "covariates")
"""Slugs of the rows in this folder; they are part of every benchmark."""
