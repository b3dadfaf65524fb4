"""`anatograph serve`: one scan over HTTP in, its vector, quality and picture out."""
