"""`stagetransfer predict`: a finished run reads patches, slices and series of CT."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from stagetransfer.cli.options import pair, png_scale
from stagetransfer.errors import UserError


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder.")],
    root: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A patch (8-bit picture), a slice, a series, or a folder of any: DICOM, NIfTI, "
            "16-bit PNG.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The new folder. [default: predict/INPUT beside runs/]")
    ] = None,
    stride: Annotated[int, typer.Option(min=1, help="Pixels from window to window.")] = 8,
    mask: Annotated[
        Path | None, typer.Option(help="Your lung mask, or a folder of them: PNG, NIfTI, SEG.")
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Read this series alone: its UID, number or folder.")
    ] = None,
    slices: Annotated[
        list[int] | None, typer.Option("--slice", help="Read this slice, from 0; repeat for more.")
    ] = None,
    reason: Annotated[
        list[str] | None,
        typer.Option(help="X,Y of a window whose reason is to be shown; repeat for more."),
    ] = None,
    seg: Annotated[
        bool, typer.Option("--seg", help="Leave a DICOM SEG of each DICOM series.")
    ] = False,
    truth: Annotated[
        Path | None, typer.Option(help="Labelled masks to compare with: Dice and class shares.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV of value,label: names for the values of --truth.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="LEVEL/WIDTH in HU. [default: the training patches']")
    ] = None,
    spacing: Annotated[
        float | None,
        typer.Option(help="Side of a window's pixel in mm. [default: the training patches']"),
    ] = None,
    field: Annotated[
        float | None, typer.Option(help="The same by a window's width in mm, as 18.")
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(help="Least share of a window within the lung. [default: as in training]"),
    ] = None,
    certain: Annotated[
        float, typer.Option(help="Least calibrated probability of a class; below: uncertain.")
    ] = 0.5,
    familiar: Annotated[
        float,
        typer.Option(help="Share of validation images that count as like the training data."),
    ] = 0.95,
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
    batch: Annotated[int, typer.Option(min=1, help="Windows at once.")] = 128,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N; auto takes a GPU where there is one.")
    ] = "auto",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out and count what can't be read.")
    ] = False,
) -> None:
    """Maps of a slice's lung by class, with calibrated doubts. Research use, not a diagnosis."""
    if spacing is not None and field is not None:
        raise UserError("--spacing and --field both fix the pixel (field / size); give one")
    for option, value in (("spacing", spacing), ("field", field), ("png-spacing", png_spacing)):
        if value is not None and not 0 < value < 1000:
            raise UserError(f"--{option} {value:g}: must be a length in mm, above 0")
    for option, share in (("certain", certain), ("familiar", familiar), ("coverage", coverage)):
        if share is not None and not 0 <= share <= 1:
            raise UserError(f"--{option} {share:g}: must lie between 0 and 1")
    reasons = tuple(_place(text) for text in reason or [])
    level_width = None if window is None else pair("--window", window, "LEVEL/WIDTH")
    if level_width is not None and level_width[1] <= 0:
        raise UserError(f"--window {window}: the width must be above 0")

    try:
        from stagetransfer.ct.problems import Problems
        from stagetransfer.ct.regions import Labels, read_labels
        from stagetransfer.inference.inputs import open_source
        from stagetransfer.inference.read_input import write_opinion
        from stagetransfer.inference.reference_features import FILE, reference
        from stagetransfer.inference.request import Ask, Crop
    except ModuleNotFoundError as error:
        raise UserError(
            f'no module {error.name}; install it by pip install "stagetransfer[predict]"'
        ) from error
    from stagetransfer.pipeline.restore import restore_runs
    from stagetransfer.training import machine

    runs = restore_runs([run])
    if len(runs) > 1:
        raise UserError(f"{run}: holds {len(runs)} finished runs; give the folder of one")
    chosen = _device(device)
    machine.keep_freed_memory()
    if not (runs[0].folder / FILE).is_file():
        typer.echo("first use of this run: its training and validation images are read once")
    known, kept = reference(runs[0], chosen)
    if not kept:
        typer.echo(f"note: {run} can't be written to; its reference is gathered each time")
    cut = known.cut
    if level_width is not None:
        cut = dataclasses.replace(cut, level=level_width[0], width=level_width[1])
    if coverage is not None:
        cut = dataclasses.replace(cut, coverage=coverage)
    if field is not None or spacing is not None:
        cut = dataclasses.replace(cut, spacing=field / cut.size if field is not None else spacing)
    problems = Problems()
    leave = [path for path in (mask, truth, labels) if path is not None]
    if any(path.resolve() == root.resolve() for path in leave):
        raise UserError(f"{root}: is input and mask at once; keep masks in their own folder")
    source = open_source(
        root,
        cut,
        problems,
        series=series,
        by_folder=patient == "folder",
        scale=png_scale(png_rescale, png_spacing),
        leave=leave,
    )
    out = out or runs[0].folder.parent.parent / "predict" / (root.resolve().name.split(".")[0])
    try:
        summary = write_opinion(
            known.judge(runs[0], certain=certain, familiar=familiar, device=chosen),
            source,
            out,
            Ask(
                cut=cut,
                stride=stride,
                batch=batch,
                slices=tuple(slices or ()),
                mask=mask,
                truth=truth,
                labels=Labels() if labels is None else read_labels(labels),
                reasons=reasons,
                seg=seg,
            ),
            problems,
            run=runs[0].folder.name,
            crop=Crop(known.side, known.fit),
            skip_bad=skip_bad,
            tell=lambda line: typer.echo(line),
        )
    finally:
        for line in problems.lines:
            typer.echo(f"{'left out' if skip_bad else 'error'}: {line}", err=True)
    _show(summary)
    typer.echo(f"written  {out}")


def _place(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"--reason {text}: must be X,Y in pixels of the slice") from error
    return x, y


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: not here; auto takes what there is") from error
    return name


def _show(summary: dict[str, Any]) -> None:
    if summary["shares"]:
        width = max(map(len, summary["shares"]))
        for name, share in summary["shares"].items():
            typer.echo(f"{name.ljust(width)}  {100 * share:5.1f} % of the lung")
    for key in ("slices", "slices_without_windows", "windows", "patches"):
        if summary[key]:
            typer.echo(f"{summary[key]} {key.replace('_', ' ')}")
    for kind, count in summary["left_out"].items():
        typer.echo(f"left out: {count} {kind}")
    typer.echo(summary["notice"])
