"""The report: one page that opens offline, made of Jinja templates, Plotly and NiiVue."""

from anatograph.analysis.report.page import report

__all__ = ["report"]
