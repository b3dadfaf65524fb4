"""Embeddings as tables for scanpy, R, Stata and spreadsheets."""
