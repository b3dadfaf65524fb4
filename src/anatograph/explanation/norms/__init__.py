"""Normative references on disk: built from healthy scans, used for any scan."""
