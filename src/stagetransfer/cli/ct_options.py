"""Options that `extract` and `predict` share, and their checks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stagetransfer.errors import UserError

if TYPE_CHECKING:
    from stagetransfer.ct import PngScale

PatientOption = Annotated[
    Literal["header", "folder"],
    typer.Option(help="DICOM patients by PatientID, or by the first folder below INPUT."),
]
PngRescaleOption = Annotated[
    str | None, typer.Option(help="SLOPE/INTERCEPT from PNG values to HU, for example 1/-1024.")
]
PngSpacingOption = Annotated[
    float | None, typer.Option(help="Side of a PNG's pixel in mm, if it is known.")
]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out and count what cannot be used.")
]


@contextmanager
def require_extra(name: str) -> Iterator[None]:
    """Turn a failed import within the block into an error that names the optional dependencies."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name}: this Python module is not installed. Install it with "
            f'pip install "stagetransfer[{name}]"'
        ) from error


def check_lengths(spacing: float | None, field: float | None, png_spacing: float | None) -> None:
    """Raise UserError unless these options are lengths in mm, with at most one of the first two."""
    if spacing is not None and field is not None:
        raise UserError("--spacing and --field: both set the pixel size (field / size). Give one")
    for option, value in (("spacing", spacing), ("field", field), ("png-spacing", png_spacing)):
        if value is not None and not 0.001 <= value < 1000:
            raise UserError(f"--{option} {value:g}: must be a length in mm, 0.001 or greater")


def parse_window(text: str) -> tuple[float, float]:
    """Return level and width of a grey window in HU, from LEVEL/WIDTH."""
    level, width = _parse_pair("--window", text, "LEVEL/WIDTH")
    if width <= 0:
        raise UserError(f"--window {text}: the width must be greater than 0")
    return level, width


def parse_png_scale(rescale: str | None, spacing: float | None) -> PngScale | None:
    """Return what --png-rescale and --png-spacing mean; None if neither is given."""
    if rescale is None:
        if spacing is not None:
            raise UserError("--png-spacing: --png-rescale is missing. Give both")
        return None
    from stagetransfer.ct import PngScale

    slope, intercept = _parse_pair("--png-rescale", rescale, "SLOPE/INTERCEPT")
    if slope == 0:
        raise UserError(f"--png-rescale {rescale}: the slope must not be 0")
    return PngScale(slope, intercept, spacing)


def _parse_pair(option: str, text: str, form: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.split("/"))
    except ValueError:
        first = second = math.nan
    if not (math.isfinite(first) and math.isfinite(second)):
        raise UserError(f"{option} {text}: must be {form}, two numbers")
    return first, second


def show_problems(lines: list[str], skip_bad: bool) -> None:
    """Print the problems of the input to standard error."""
    for line in lines:
        typer.echo(f"{'left out' if skip_bad else 'error'}: {line}", err=True)


def show_left_out(summary: dict[str, Any]) -> None:
    """Print how many items were left out, one line per kind."""
    for kind, count in summary["left_out"].items():
        typer.echo(f"left out: {count} {kind}")
