"""`stagetransfer serve`: a page on this machine for looking around in finished runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stagetransfer.cli.options import Device, RunPaths, available_device, choose_run, existing
from stagetransfer.errors import UserError, require_extra

if TYPE_CHECKING:
    from stagetransfer.serve.site import Site


def serve(
    runs: RunPaths,
    root: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="A slice, a series or a folder of these, to be classified by --run.",
            callback=existing,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="The finished run that classifies --input.", callback=existing),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1. (default: any free one)")
    ] = 0,
    device: Device = "auto",
) -> None:
    """Show runs in a browser: the comparison, runs, images and slices. Ctrl-C ends it."""
    if (root is None) != (run is None):
        given, missing = ("--run", "--input") if root is None else ("--input", "--run")
        raise UserError(f"{missing}: is missing. Give it with {given}, or leave both out")
    with require_extra("serve"):
        from stagetransfer.serve import serve as start

    def open_site() -> "Site":
        from stagetransfer.serve.site import Site

        opinion = None
        if root is not None and run is not None:
            opinion = root, choose_run([run], latest=False).name
        # Without a question about it, PyTorch is imported by the first page that needs it.
        return Site(runs, opinion, device if device == "auto" else available_device(device))

    start(open_site, port, lambda address: typer.echo(f"open  {address}"))
