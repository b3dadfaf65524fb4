"""Harmonisation of features between sites or scanners."""
