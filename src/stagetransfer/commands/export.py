"""`stagetransfer export`: a finished run in; weights, ONNX and a model card out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="The folder of one finished run.")],
    out: Annotated[
        Path | None, typer.Option(help="The new folder. [default: export/<run> beside runs]")
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx/--no-onnx", help="Also as ONNX, compared with PyTorch.")
    ] = True,
    licence: Annotated[
        str, typer.Option(help="Of the weights, for the card, as cc-by-nc-4.0.")
    ] = "",
) -> None:
    """Writes model.safetensors, model.onnx and a model card, README.md."""
    from stagetransfer.exchange import export_run

    bundle = export_run(run, out, onnx=onnx, licence=licence)
    size = (bundle.folder / "model.safetensors").stat().st_size / 1e6
    typer.echo(f"model.safetensors  {bundle.parameters:,} parameters, {size:.0f} MB")
    if bundle.agreement is not None:
        typer.echo(
            f"model.onnx  differs from PyTorch by at most {bundle.agreement.difference:.1e}, in "
            f"logits up to {bundle.agreement.greatest:.1f}"
        )
    typer.echo(f"written  {bundle.folder / 'README.md'}")
