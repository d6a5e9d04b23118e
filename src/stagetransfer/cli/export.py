"""`stagetransfer export`: a finished run in; weights, ONNX and a model card out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.errors import UserError


def export(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The new folder of one run. [default: export/<run> beside runs]"),
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx/--no-onnx", help="Also as ONNX, compared with PyTorch.")
    ] = True,
    licence: Annotated[
        str, typer.Option(help="Of the weights, for the card, as cc-by-nc-4.0.")
    ] = "",
) -> None:
    """Writes model.safetensors, model.onnx and a model card, README.md, of each run."""
    if out is not None and len(runs) > 1:
        raise UserError(f"--out {out}: is for one run; without it each run gets its own folder")

    from stagetransfer.export import export_run

    for run in runs:
        bundle = export_run(run, out, onnx=onnx, licence=licence)
        size = (bundle.folder / "model.safetensors").stat().st_size / 1e6
        typer.echo(f"model.safetensors  {bundle.parameters:,} parameters, {size:.0f} MB")
        if bundle.agreement is not None:
            typer.echo(
                f"model.onnx  differs from PyTorch by at most {bundle.agreement.difference:.1e}, "
                f"in logits up to {bundle.agreement.greatest:.1f}"
            )
        typer.echo(f"written  {bundle.folder / 'README.md'}")
