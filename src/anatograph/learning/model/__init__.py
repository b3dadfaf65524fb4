"""Networks, configuration, the model folder, and graphs."""
