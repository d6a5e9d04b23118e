"""Reports of finished runs: tables, figures, pages and the TensorBoard board, from files alone."""

from stagetransfer.reporting.build import make_report

__all__ = ["make_report"]
