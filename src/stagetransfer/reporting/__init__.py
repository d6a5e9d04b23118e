"""Reports of finished runs: tables, figures, pages, curves and the TensorBoard board.

Everything is made from the files of the runs. `write_report` makes the report from sections,
each in a file of its own, and `stagetransfer.pages` writes it.
"""

from stagetransfer.reporting.write_report import make_report

__all__ = ["make_report"]
