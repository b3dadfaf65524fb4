"""Models that ship with the package, and how one is found by its name."""
