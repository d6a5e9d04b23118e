"""`stagetransfer extract`: from CT series and annotations to a data set of ROI patches."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from stagetransfer.cli import ct_options
from stagetransfer.cli.options import NEW_FOLDER, existing, new_file
from stagetransfer.errors import UserError, require_extra


def extract(
    root: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="File or nested folder: DICOM, NIfTI, MetaImage, NRRD, 16-bit PNG.",
        ),
    ],
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="CSV of points, boxes and polygons; or masks, SEG, RTSTRUCT or ImageJ ROIs."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The new folder of the data set.", **NEW_FOLDER)
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns value and label: names of mask values, or new names of "
            "labels.",
            callback=existing,
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=1, max=9999, help="Side of a patch in pixels.")] = 32,
    window: Annotated[
        str, typer.Option(help="Grey window LEVEL/WIDTH in HU, which becomes 256 grey values.")
    ] = "-600/1500",
    spacing: Annotated[
        float | None, typer.Option(help="Resample to pixels of this side in mm.")
    ] = None,
    field: Annotated[
        float | None, typer.Option(help="Resample so that a patch is this wide in mm.")
    ] = None,
    place: Annotated[
        Literal["grid", "centre"],
        typer.Option(
            help="grid: patches side by side over a region. centre: one patch in each connected "
            "part of a region."
        ),
    ] = "grid",
    coverage: Annotated[
        float, typer.Option(help="Minimum share of a patch that is inside its region, 0 to 1.")
    ] = 0.75,
    overlap: Annotated[
        float, typer.Option(help="Share by which neighbouring patches overlap; below 1.")
    ] = 0.0,
    neighbours: Annotated[
        int,
        typer.Option(min=0, max=1, help="1: add the slices before and after as further channels."),
    ] = 0,
    patient: ct_options.PatientOption = "header",
    png_rescale: ct_options.PngRescaleOption = None,
    png_spacing: ct_options.PngSpacingOption = None,
    unspecified_hu: ct_options.UnspecifiedHuOption = False,
    salt: Annotated[
        Path | None,
        typer.Option(
            help="File with the secret key of the pseudonyms. (default: extract.salt beside --out)",
            callback=new_file,
        ),
    ] = None,
    skip_bad: ct_options.SkipBadOption = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Write nothing. Print the counts or, without annotations, a list of the series.",
        ),
    ] = False,
) -> None:
    """Extract labelled ROI patches from CT series; patients get salted pseudonyms."""
    ct_options.check_lengths(spacing, field, png_spacing)
    if not 0 <= coverage <= 1:
        raise UserError(f"--coverage {coverage:g}: must lie between 0 and 1")
    if not 0 <= overlap < 1:
        raise UserError(f"--overlap {overlap:g}: must be at least 0 and less than 1")
    level, width = ct_options.parse_window(window)
    if out is None and not check:
        raise UserError("--out: missing. Give the new folder, or --check to only count")
    if annotations is None and not check:
        raise UserError("--annotations: missing. Give them, or --check to describe the input")

    with require_extra("ct"):
        from stagetransfer import ct
        from stagetransfer.ct.find_series import check_patients
        from stagetransfer.ct.patch_dataset import check_output_folder

    if out is not None and not check:
        check_output_folder(out, root)
    pixel = field / size if field is not None else spacing
    reach: Literal[0, 1] = 1 if neighbours else 0
    settings = ct.PatchSettings(size, level, width, pixel, place, coverage, overlap, reach)
    reading = ct_options.reading_options(patient, png_rescale, png_spacing, unspecified_hu)
    if annotations is None:
        problems = ct.Problems()
        found, others = ct.find_series(root, problems, **reading)
        ct_options.show_problems(problems, skip_bad)
        _show_table(ct.describe(found))
        check_patients(root, found)
        ct_options.show_left_out({"left_out": problems.counts})
        typer.echo(f"{others} files that are not CT images")
        problems.check(skip_bad)
        return
    extraction = ct.extract_patches(root, annotations, settings, labels=labels, **reading)
    ct_options.show_problems(extraction.problems, skip_bad)
    for line in extraction.without_patch:
        typer.echo(f"no patch: {line}: too small for --size and --coverage", err=True)
    # Numbers instead of names, because the output of a terminal may be stored or passed on.
    patients = sorted({patch.patient for patch in extraction.patches})
    name_of = {patient: f"patient {n:04d}" for n, patient in enumerate(patients, 1)}.__getitem__
    if check or out is None:
        _show(ct.summarise(extraction, name_of), with_patients=True)
        extraction.problems.check(skip_bad)
        return
    secret = out.absolute().parent / "extract.salt" if salt is None else salt
    ct.write_dataset(extraction, out, secret, skip_bad=skip_bad)
    _show(ct.summarise(extraction, name_of), with_patients=False)
    typer.echo(f"written  {out / 'labels.csv'}")
    typer.echo(f"keep {secret} private: with it, pseudonyms can be traced back to patients")


def _show(summary: dict[str, Any], *, with_patients: bool) -> None:
    """Print the counts as a table with one column per class, then what was left out."""
    classes: dict[str, dict[str, int]] = summary["classes"]
    rows = [["", *classes, "total"]]
    for what in ("images", "patients"):
        rows.append([what, *(str(one[what]) for one in classes.values()), str(summary[what])])
    if with_patients:
        for patient, counts in summary["images_by_patient"].items():
            rows.append([patient, *map(str, counts.values()), str(sum(counts.values()))])
    _show_table(rows)
    ct_options.show_left_out(summary)
    for key, text in (
        ("annotations_without_patch", "annotations without a patch"),
        ("series_without_annotation", "series without an annotation"),
        ("other_files", "files that are not CT images"),
        ("repeated_neighbours", "patches at an end of a series, with a repeated slice"),
        ("same_place_dropped", "patches given twice, kept once"),
        ("same_pixels", "patches with the pixels of another, kept"),
        ("classes_overlap", "overlaps between classes, kept"),
    ):
        if summary[key]:
            typer.echo(f"{summary[key]} {text}")


def _show_table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        typer.echo("  ".join(cells).rstrip())
