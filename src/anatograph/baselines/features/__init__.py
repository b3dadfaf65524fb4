"""Hand-crafted features, and what is computed once per scan for all rows."""
