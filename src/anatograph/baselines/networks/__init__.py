"""Networks that several rows share."""
