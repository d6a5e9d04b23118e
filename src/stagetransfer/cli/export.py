"""`stagetransfer export`: write a finished run's weights, ONNX file and model card."""

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import NEW_FOLDER, finished_folders, run_argument
from stagetransfer.errors import UserError


def export(
    runs: Annotated[list[Path], run_argument("Folders of finished runs.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="New folder, for one run only. (default: export/<run> beside runs)", **NEW_FOLDER
        ),
    ] = None,
    onnx: Annotated[bool, typer.Option(help="Also write ONNX and compare it with PyTorch.")] = True,
    licence: Annotated[
        str, typer.Option(help="Licence of the weights for the model card, such as cc-by-nc-4.0.")
    ] = "",
) -> None:
    """Write model.safetensors, model.onnx and a model card (README.md) of each run."""
    finished = finished_folders(runs)
    runs = [path for path in runs if any(x.is_relative_to(path.resolve()) for x in finished)]
    if out is not None and len(runs) > 1:
        raise UserError(
            f"--out {out}: it is for one run only. Leave it out, and each run gets its own folder."
        )

    from stagetransfer.export import export_run

    for run in runs:
        exported = export_run(run, out, onnx=onnx, licence=licence)
        size = (exported.folder / "model.safetensors").stat().st_size / 1e6
        typer.echo(f"model.safetensors  {exported.parameters:,} parameters, {size:.0f} MB")
        if found := exported.agreement:
            largest = f"{found.difference:.1e}, in logits up to {found.largest:.1f}"
            typer.echo(f"model.onnx  differs from PyTorch by at most {largest}")
        typer.echo(f"written  {exported.folder / 'README.md'}")
