"""Awkward and hostile inputs, each with what the user sees; docs/awkward-scans.md is written from the same table."""
