"""What came out, beside what the paper has: tables now, in three forms."""

from gz2vit.report.formats import to_csv, to_latex, to_markdown, write_tables
from gz2vit.report.table import results_table

__all__ = ["results_table", "to_csv", "to_latex", "to_markdown", "write_tables"]
