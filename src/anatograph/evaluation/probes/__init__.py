"""Linear, logistic, ordinal and Cox probes, and one that is not linear."""
