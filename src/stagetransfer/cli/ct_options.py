"""Options that `extract` and `predict` share, and their checks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stagetransfer.errors import UserError

if TYPE_CHECKING:
    from stagetransfer.ct import PngScale, Problems
    from stagetransfer.ct.find_series import ReadingOptions

PatientOption = Annotated[
    str,
    typer.Option(
        help="header: DICOM's PatientID; folder: the first folder below INPUT; or a regular "
        "expression that finds the patient in a file's name below INPUT, such as sub-[0-9]+."
    ),
]
PngRescaleOption = Annotated[
    str | None, typer.Option(help="SLOPE/INTERCEPT from PNG values to HU, for example 1/-1024.")
]
PngSpacingOption = Annotated[
    float | None, typer.Option(help="Pixel size of a PNG in mm, if it is known.")
]
UnspecifiedHuOption = Annotated[
    bool,
    typer.Option(
        "--unspecified-hu", help="Treat DICOM values of RescaleType US (unspecified) as HU."
    ),
]
SkipBadOption = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out input that cannot be used, and count it."),
]


def check_lengths(spacing: float | None, field: float | None, png_spacing: float | None) -> None:
    """Raise UserError unless these options are lengths in mm, with at most one of the first two."""
    if spacing is not None and field is not None:
        raise UserError("--spacing and --field: both set the pixel size (field / size). Give one")
    for option, value in (("spacing", spacing), ("field", field), ("png-spacing", png_spacing)):
        if value is not None and not 0.001 <= value < 1000:
            raise UserError(f"--{option} {value:g}: must be a length in mm, 0.001 or greater")


def reading_options(
    patient: str, png_rescale: str | None, png_spacing: float | None, unspecified_hu: bool
) -> ReadingOptions:
    """Return what these options mean to `stagetransfer.ct.find_series`."""
    return {
        "patient_of": _parse_patient(patient),
        "scale": _parse_png_scale(png_rescale, png_spacing),
        "unspecified_is_hu": unspecified_hu,
    }


def _parse_patient(text: str) -> Callable[[str], str] | None:
    """Return what --patient means: how the patient follows from a file's name below the input.

    A regular expression stands for what it finds, or for its first group if it has one.
    """
    if text == "header":
        return None
    if text == "folder":
        from stagetransfer.ct.dicom import folder_patient

        return folder_patient
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UserError(f"--patient {text}: not a regular expression ({error})") from error

    def patient_of(where: str) -> str:
        found = pattern.search(where)
        patient = found and found[min(1, pattern.groups)]
        if not patient:
            raise UserError(f"--patient {text}: finds no patient in {where}. Correct the pattern")
        return patient

    return patient_of


def parse_window(text: str) -> tuple[float, float]:
    """Return level and width of a grey window in HU, from LEVEL/WIDTH."""
    level, width = parse_pair("--window", text, "LEVEL/WIDTH")
    if width <= 0:
        raise UserError(f"--window {text}: the width must be greater than 0")
    return level, width


def _parse_png_scale(rescale: str | None, spacing: float | None) -> PngScale | None:
    """Return what --png-rescale and --png-spacing mean; None if neither is given."""
    if rescale is None:
        if spacing is not None:
            raise UserError("--png-spacing: --png-rescale is missing. Give both")
        return None
    from stagetransfer.ct import PngScale

    slope, intercept = parse_pair("--png-rescale", rescale, "SLOPE/INTERCEPT")
    if slope == 0:
        raise UserError(f"--png-rescale {rescale}: the slope must not be 0")
    return PngScale(slope, intercept, spacing)


def parse_pair(option: str, text: str, form: str, sign: str = "/") -> tuple[float, float]:
    """Return the two finite numbers of an option's text, with a sign between them."""
    try:
        first, second = (float(part) for part in text.split(sign))
    except ValueError:
        first = second = math.nan
    if not (math.isfinite(first) and math.isfinite(second)):
        raise UserError(f"{option} {text}: must be {form}, two numbers")
    return first, second


def show_problems(problems: Problems, skip_bad: bool) -> None:
    """Print the notes on the input and its problems to standard error."""
    for line in problems.notes:
        typer.echo(f"note: {line}", err=True)
    for line in problems.lines:
        typer.echo(f"{'left out' if skip_bad else 'error'}: {line}", err=True)


def show_left_out(summary: dict[str, Any]) -> None:
    """Print how many items were left out, one line per kind."""
    for kind, count in summary["left_out"].items():
        typer.echo(f"left out: {count} {kind}")
