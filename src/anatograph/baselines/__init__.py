"""The rivals of the paper's tables, and the benchmark that runs them."""
