"""Reports of finished runs: tables, figures, pages, curves and the TensorBoard board.

Everything is made from the files of the runs. `build` makes the report and orders its sections;
each section has a file, such as `table2`, `table3`, `figure5` and `depth_section`. They share
`blocks`, `formatting` and `plots`; `render` writes the page and its tables.
"""

from stagetransfer.reporting.build import make_report

__all__ = ["make_report"]
