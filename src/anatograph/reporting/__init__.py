"""The report: one page that opens offline, made of Jinja templates, Plotly and NiiVue."""

from anatograph.reporting.page import report

__all__ = ["report"]
