"""Networks and training loops that several rows share."""
