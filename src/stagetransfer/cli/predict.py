"""`stagetransfer predict`: a finished run reads patches, slices and series of CT."""

import dataclasses
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Annotated, Any

import typer

from stagetransfer.cli import ct_options
from stagetransfer.cli.options import (
    NEW_FOLDER,
    Device,
    available_device,
    choose_run,
    existing,
    run_argument,
)
from stagetransfer.errors import UserError, require_extra
from stagetransfer.files import default_folder

# Parameters that patches as 8-bit images do not need. --seg and --captures have their own line.
_OF_SERIES = (
    "stride", "mask", "slices", "reason", "truth", "window", "spacing", "field", "coverage",
    "patient", "png_rescale", "png_spacing", "unspecified_hu",
)  # fmt: skip


def predict(
    ctx: typer.Context,
    runs: Annotated[
        list[Path],
        run_argument("The folder of a finished run. For several, see --latest.", metavar="RUN"),
    ],
    root: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A patch (8-bit image), a slice, a series, or a folder of these: DICOM, NIfTI, "
            "16-bit PNG.",
        ),
    ],
    latest: Annotated[
        bool, typer.Option("--latest", help="Of several runs, take the one that finished last.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The new folder. (default: predict/INPUT beside runs/)", **NEW_FOLDER),
    ] = None,
    stride: Annotated[
        int,
        typer.Option(min=1, max=100_000, help="Distance of neighbouring windows in pixels."),
    ] = 8,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Your lung mask, or a folder of masks: PNG, NIfTI, DICOM SEG.", callback=existing
        ),
    ] = None,
    mask_values: Annotated[
        str, typer.Option(help="Values of --mask that are lung, such as 10,11. (default: all)")
    ] = "",
    series: Annotated[
        str | None, typer.Option(help="Read only this series: its UID, number or folder.")
    ] = None,
    slices: Annotated[
        list[int] | None,
        typer.Option(
            "--slice", min=0, help="Read only the slice with this number, from 0. May be repeated."
        ),
    ] = None,
    reason: Annotated[
        list[str] | None,
        typer.Option(help="Explain the window whose centre is nearest to X,Y. May be repeated."),
    ] = None,
    seg: Annotated[
        bool,
        typer.Option(
            "--seg", help="Write a DICOM SEG and a structured report for each DICOM series."
        ),
    ] = False,
    captures: Annotated[
        bool, typer.Option("--captures", help="Write the pictures as DICOM Secondary Captures.")
    ] = False,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Masks with the true classes, to compute Dice and class shares.",
            callback=existing,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns value and label: names of the values of --truth.",
            callback=existing,
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(help="Grey window LEVEL/WIDTH in HU. (default: that of the training patches)"),
    ] = None,
    spacing: Annotated[
        float | None,
        typer.Option(help="Pixel size of a window in mm. (default: that of the training patches)"),
    ] = None,
    field: Annotated[
        float | None, typer.Option(help="Width of a window in mm, instead of --spacing.")
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Minimum share of a window that is inside the lung. (default: as in training)"
        ),
    ] = None,
    certain: Annotated[
        float,
        typer.Option(
            help="Mark a window as uncertain if its highest class probability is below this."
        ),
    ] = 0.5,
    familiar: Annotated[
        float,
        typer.Option(help="Share of the validation images that count as like the training data."),
    ] = 0.95,
    patient: ct_options.PatientOption = "header",
    png_rescale: ct_options.PngRescaleOption = None,
    png_spacing: ct_options.PngSpacingOption = None,
    unspecified_hu: ct_options.UnspecifiedHuOption = False,
    batch: Annotated[
        int,
        typer.Option(min=1, max=100_000, help="Number of windows that are classified at once."),
    ] = 128,
    device: Device = "auto",
    skip_bad: ct_options.SkipBadOption = False,
) -> None:
    """Classify the lung in CT slices and write class maps. Research use, not a diagnosis."""
    ct_options.check_lengths(spacing, field, png_spacing)
    for option, share in (("certain", certain), ("familiar", familiar), ("coverage", coverage)):
        if share is not None and not 0 <= share <= 1:
            raise UserError(f"--{option} {share:g}: must lie between 0 and 1")
    for option, needed, given, base in (
        ("mask-values", "mask", mask_values, mask), ("labels", "truth", labels, truth)
    ):  # fmt: skip
        if given and base is None:
            raise UserError(f"--{option} needs --{needed}. Give both, or leave it out.")
    explained = tuple(
        ct_options.parse_pair("--reason", text, "X,Y in pixels", sign=",") for text in reason or []
    )
    changes: dict[str, float] = {}
    if window is not None:
        changes["level"], changes["width"] = ct_options.parse_window(window)
    if coverage is not None:
        changes["coverage"] = coverage

    with require_extra("predict"):
        from stagetransfer import inference
        from stagetransfer.ct import LabelTable, Problems, read_label_table
        from stagetransfer.inference.label_map import COLUMNS, check_class_names
        from stagetransfer.inference.reference_features import FILE

        if seg or captures:
            import stagetransfer.inference.dicom_objects  # noqa: F401
    from stagetransfer.pipeline.restore import restore_runs
    from stagetransfer.training import machine

    (run,) = restore_runs([choose_run(runs, latest)])
    check_class_names(run.record["classes"])
    chosen_device = available_device(device)
    machine.keep_freed_memory()
    if not (run.folder / FILE).is_file():
        typer.echo("first use of this run: its training and validation images are read once")
    reference, stored = inference.open_reference(run, chosen_device)
    if not stored:
        typer.echo(f"note: {run.folder} is read-only, so its reference is computed in every call")
    if field is not None:
        spacing = field / reference.patches.size
    if spacing is not None:
        changes["spacing"] = spacing
    patches = dataclasses.replace(reference.patches, **changes)  # type: ignore[arg-type]
    problems = Problems()
    exclude = [path for path in (mask, truth, labels) if path is not None]
    if any(path.resolve() == root.resolve() for path in exclude):
        raise UserError(f"{root}: given both as input and as masks. Keep masks in their own folder")
    reading = ct_options.reading_options(patient, png_rescale, png_spacing, unspecified_hu)
    source = inference.find_input(
        root, patches, problems, series=series, exclude=exclude, **reading
    )
    if source.chosen:
        check_class_names(run.record["classes"], COLUMNS)
    if source.chosen and reference.window_note and window is None:  # 8-bit images need no window
        typer.echo(reference.window_note)
    if source.patches and not source.volumes:
        _refuse_without_series(ctx)
    out = out or default_folder(run.folder.parent.parent, "predict", _name_of(root))
    options = inference.PredictionOptions(
        run=run.folder.name,
        patches=patches,
        image_side=reference.side,
        image_fit=reference.fit,
        stride=stride,
        batch=batch,
        slices=tuple(slices or ()),
        lung_masks=mask,
        lung_values=tuple(filter(None, map(str.strip, mask_values.split(",")))),
        truth=truth,
        labels=LabelTable() if labels is None else read_label_table(labels),
        explained=explained,
        examples=reference.examples,
        trained_width=reference.field,
        seg=seg,
        captures=captures,
        skip_bad=skip_bad,
    )
    classifier = reference.classifier(run, certain=certain, familiar=familiar, device=chosen_device)
    try:
        summary = inference.write_predictions(
            classifier, source, out, options, problems, typer.echo
        )
    finally:
        ct_options.show_problems(problems, skip_bad)
    _show(summary, classifier.label_names)
    typer.echo(f"written  {out}")


def _name_of(root: Path) -> str:
    """Return the name of the input without the suffix of a file; a UID keeps its dots."""
    from stagetransfer.ct.input_problems import without_suffix
    from stagetransfer.layouts.folder_walk import is_image

    name = root.resolve().name
    name = Path(name).stem if root.is_file() and is_image(name) else without_suffix(name)
    return name.strip(".") or "input"


def _refuse_without_series(ctx: typer.Context) -> None:
    """Raise UserError if an option was given that only series need."""
    names = {param.name: param.opts[0] for param in ctx.command.params}
    sources = {name: ctx.get_parameter_source(name) for name in _OF_SERIES}
    # By the name of the source, because some versions of typer have a copy of click.
    given = [names[n] for n, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given:
        raise UserError(f"{', '.join(given)}: the input has only patches. Omit what series need")


def _show(summary: dict[str, Any], names: Sequence[str]) -> None:
    width = max(map(len, names))
    for number, one in enumerate(summary["by_patient"], 1):
        typer.echo(f"patient {number}: {one['slices']} slices")
        for name in names:
            share = "    -" if isnan(one[name]) else f"{100 * one[name]:5.1f}"
            part = "lung" if name == names[-1] else "lung read"
            typer.echo(f"{name.ljust(width)}  {share} % of the {part}")
    for key in ("slices", "slices_without_windows", "windows", "patches", "previews"):
        if summary[key]:
            typer.echo(f"{summary[key]} {key.replace('_', ' ')}")
    ct_options.show_left_out(summary)
    typer.echo(summary["notice"])
