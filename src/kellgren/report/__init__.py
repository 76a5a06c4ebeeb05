"""What a study prints: tables, figures and one self-contained page, functions of `StudyResult`."""

from kellgren.report.page import page, write_report

__all__ = ["page", "write_report"]
