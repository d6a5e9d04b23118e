"""The style of every figure, and the one way to save one.

The colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart; markers
and line styles repeat the distinction without colour.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stagetransfer.files import atomic_path

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES: Sequence[str | tuple[int, tuple[int, ...]]] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.markersize": 5,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "stagetransfer",  # without, matplotlib draws the ids of an SVG at random
}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches that needs no window system."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(
    figure: Figure, stem: Path, *, suffixes: Sequence[str] = (".png", ".svg"), dpi: int = 160
) -> None:
    """Write the figure as `stem` with each of the suffixes.

    The files hold no date and no software version, so that the same figure gives the same bytes.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    for suffix in suffixes:
        with atomic_path(stem.with_name(stem.name + suffix)) as part:
            part.write_bytes(figure_bytes(figure, suffix, dpi=dpi))
        figure.set_layout_engine("none")  # once is enough; it takes a third of the time


def figure_bytes(figure: Figure, suffix: str, *, dpi: int = 160) -> bytes:
    """Return the figure as the content of a file with this suffix; see `save_figure`."""
    no_date = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
    options: Any = {"format": suffix[1:], "metadata": no_date.get(suffix)}
    with mpl.rc_context(STYLE), BytesIO() as buffer:
        figure.savefig(buffer, dpi=dpi, **options)
        return buffer.getvalue()
