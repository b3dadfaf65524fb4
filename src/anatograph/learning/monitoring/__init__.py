"""Watching a run: metrics, diagnostics of an embedding, the online probe, the progress bar."""
