"""Options that several commands share, from their text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stagetransfer.errors import UserError

if TYPE_CHECKING:
    from stagetransfer.ct.png_slices import PngScale

RunPaths = Annotated[
    list[Path],
    typer.Argument(help="Run folders, runs/ folders, outputs or sweep folders, mixed."),
]
OnlySettings = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE of config.yaml that a run must have; may be repeated."),
]
ResampleCount = Annotated[int, typer.Option(min=100, help="Number of bootstrap resamples.")]


def parse_pair(option: str, text: str, form: str) -> tuple[float, float]:
    """Return two finite numbers from A/B; UserError for any other text."""
    try:
        first, second = (float(part) for part in text.split("/"))
    except ValueError:
        first = second = math.nan
    if not (math.isfinite(first) and math.isfinite(second)):
        raise UserError(f"{option} {text}: must be {form}, two numbers")
    return first, second


def parse_png_scale(rescale: str | None, spacing: float | None) -> PngScale | None:
    """Return what --png-rescale and --png-spacing mean; None if neither is given."""
    if rescale is None:
        if spacing is not None:
            raise UserError("--png-spacing: --png-rescale is missing. Give both")
        return None
    from stagetransfer.ct.png_slices import PngScale

    slope, intercept = parse_pair("--png-rescale", rescale, "SLOPE/INTERCEPT")
    if slope == 0:
        raise UserError(f"--png-rescale {rescale}: the slope must not be 0")
    return PngScale(slope, intercept, spacing)
