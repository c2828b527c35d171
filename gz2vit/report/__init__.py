"""What came out, beside what the paper has: the results table, and the report of all of a run.

The report's page draws learning curves, so that its functions are imported when they are wanted:
`from gz2vit.report.page import write_report`.
"""

from gz2vit.report.formats import to_csv, to_latex, to_markdown, write_tables
from gz2vit.report.origins import training_words
from gz2vit.report.runs import read_confusion, read_network
from gz2vit.report.table import results_table

__all__ = [
    "read_confusion",
    "read_network",
    "results_table",
    "to_csv",
    "to_latex",
    "to_markdown",
    "training_words",
    "write_tables",
]
