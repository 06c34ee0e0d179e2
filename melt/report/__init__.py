"""The report: one HTML file that needs nothing else, with its figures and tables as files beside it."""

from melt.report.write import write_report

__all__ = ["write_report"]
