"""Hand-crafted features and what is prepared once for all rows."""
