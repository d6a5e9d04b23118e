"""`stagetransfer extract`: CT series and annotations in, a data set of ROI patches out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from stagetransfer.cli.options import pair, png_scale
from stagetransfer.errors import UserError


def extract(
    root: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help="Folder or file: DICOM, NIfTI, 16-bit PNG; nested."),
    ],
    annotations: Annotated[
        Path, typer.Option(help="CSV of points, boxes, polygons; or a mask, or a folder of masks.")
    ],
    out: Annotated[Path | None, typer.Option(help="The new folder of the data set.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV of value,label: names for values of masks, new names.")
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Side of a patch in pixels.")] = 32,
    window: Annotated[
        str, typer.Option(help="LEVEL/WIDTH in HU that the 256 greys span.")
    ] = "-600/1500",
    spacing: Annotated[
        float | None, typer.Option(help="Resample to pixels of this side in mm.")
    ] = None,
    field: Annotated[
        float | None, typer.Option(help="Resample so that a patch is this wide in mm.")
    ] = None,
    place: Annotated[
        Literal["grid", "centre"],
        typer.Option(help="Side by side over a region, or one in each connected part."),
    ] = "grid",
    coverage: Annotated[
        float, typer.Option(help="Least share of a patch within its region; 0 to 1.")
    ] = 0.75,
    overlap: Annotated[
        float, typer.Option(help="Share by which neighbours of the grid overlap; below 1.")
    ] = 0.0,
    patient: Annotated[
        Literal["header", "folder"],
        typer.Option(help="DICOM patients by PatientID, or by the first folder below INPUT."),
    ] = "header",
    png_rescale: Annotated[
        str | None, typer.Option(help="SLOPE/INTERCEPT from PNG values to HU, as 1/-1024.")
    ] = None,
    png_spacing: Annotated[
        float | None, typer.Option(help="Side of a PNG's pixel in mm, where it is known.")
    ] = None,
    salt: Annotated[
        Path | None,
        typer.Option(help="Secret of the pseudonyms. [default: extract.salt beside --out]"),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out and count what can't be used.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only report counts; write nothing.")
    ] = False,
) -> None:
    """Cuts labelled ROI patches from CT series; patients get salted pseudonyms."""
    if spacing is not None and field is not None:
        raise UserError("--spacing and --field both fix the pixel (field / size); give one")
    for option, value in (("spacing", spacing), ("field", field), ("png-spacing", png_spacing)):
        if value is not None and not 0 < value < 1000:
            raise UserError(f"--{option} {value:g}: must be a length in mm, above 0")
    if not 0 <= coverage <= 1:
        raise UserError(f"--coverage {coverage:g}: must lie between 0 and 1")
    if not 0 <= overlap < 1:
        raise UserError(f"--overlap {overlap:g}: must be 0 or more and less than 1")
    level, width = pair("--window", window, "LEVEL/WIDTH")
    if width <= 0:
        raise UserError(f"--window {window}: the width must be above 0")
    if out is None and not check:
        raise UserError("--out: give the new folder of the data set, or --check to only count")

    # Imported late, and with its own line: these libraries are an extra.
    try:
        from stagetransfer.ct import write_patches
        from stagetransfer.ct.extraction import collect
        from stagetransfer.ct.roi_patches import Cut
    except ModuleNotFoundError as error:
        raise UserError(
            f'no module {error.name}; install it by pip install "stagetransfer[ct]"'
        ) from error

    if out is not None and not check:
        write_patches.check_place(out, root)
    extraction = collect(
        root,
        annotations,
        Cut(
            size=size,
            level=level,
            width=width,
            spacing=field / size if field is not None else spacing,
            place=place,
            coverage=coverage,
            overlap=overlap,
        ),
        labels=labels,
        by_folder=patient == "folder",
        scale=png_scale(png_rescale, png_spacing),
    )
    for line in extraction.problems.lines:
        typer.echo(f"{'left out' if skip_bad else 'error'}: {line}", err=True)
    for line in extraction.empty:
        typer.echo(f"no patch: {line}, too small for --size and --coverage", err=True)
    # Numbers, not names: what a terminal shows is kept and passed on as well.
    patients = sorted({patch.patient for patch in extraction.patches})
    name = {patient: f"patient {n:04d}" for n, patient in enumerate(patients, 1)}.__getitem__
    if check or out is None:
        _show(write_patches.summary(extraction, name), with_patients=True)
        write_patches.refuse_problems(extraction, skip_bad)
        return
    secret = out.absolute().parent / "extract.salt" if salt is None else salt
    write_patches.write(extraction, out, secret, skip_bad=skip_bad)
    _show(write_patches.summary(extraction, name), with_patients=False)
    typer.echo(f"written  {out / 'labels.csv'}")
    typer.echo(f"keep {secret} to yourself: with it pseudonyms can be traced and made again")


def _show(found: dict[str, Any], *, with_patients: bool) -> None:
    """The counts as a table, a class a column; then what was left out, a line a kind."""
    classes: dict[str, dict[str, int]] = found["classes"]
    rows = [["", *classes, "total"]]
    for what in ("images", "patients"):
        rows.append([what, *(str(one[what]) for one in classes.values()), str(found[what])])
    if with_patients:
        for patient, counts in found["images_by_patient"].items():
            rows.append([patient, *map(str, counts.values()), str(sum(counts.values()))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        typer.echo("  ".join(cells).rstrip())
    for kind, count in found["left_out"].items():
        typer.echo(f"left out: {count} {kind}")
    for key, text in (
        ("annotations_without_patch", "annotations without a patch"),
        ("series_without_annotation", "series without an annotation"),
        ("other_files", "files that are no images"),
        ("same_place_dropped", "patches given twice, kept once"),
        ("same_pixels", "patches with the pixels of another, kept"),
        ("classes_overlap", "overlaps between classes, kept"),
    ):
        if found[key]:
            typer.echo(f"{found[key]} {text}")
