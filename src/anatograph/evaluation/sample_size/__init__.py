"""Score against the number of subjects."""
