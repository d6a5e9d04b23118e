"""Write the tables and plots of `stagetransfer roc`, `froc` and `convergence`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from stagetransfer.figures import save_figure
from stagetransfer.files import write_text


def write_curve_files(
    out: Path, tables: Mapping[str, pd.DataFrame], plots: Mapping[str, Figure]
) -> None:
    """Write <name>.csv, and <name>.png and .svg; the same numbers give the same files."""
    for name, table in tables.items():
        write_text(out / f"{name}.csv", table.to_csv(index=False))
    for name, figure in plots.items():
        save_figure(figure, out / name)
