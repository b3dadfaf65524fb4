"""What the embedding adds to covariates."""
