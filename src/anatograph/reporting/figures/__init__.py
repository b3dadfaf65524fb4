"""Figures of the report: traces and axes for Plotly, with captions fit for a paper."""
