"""The report of a study: one HTML page, and its figures as PDF, PNG and CSV."""

from sndqn.study.report.write import FORMATS, write_report

__all__ = ["FORMATS", "write_report"]
