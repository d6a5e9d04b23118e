"""`stagetransfer visualize`: what the features of finished runs see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stagetransfer.errors import UserError

if TYPE_CHECKING:
    from stagetransfer.explain import Seed


def visualize(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold runs.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write. [default: visualization beside runs]")
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Runs with this ratio. [default: the greatest]")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Runs with this seed; repeat for several. All else.")
    ] = None,
    method: Annotated[str, typer.Option(help="desalinet, deconvnet or salinet.")] = "desalinet",
    layer: Annotated[str, typer.Option(help="Whose output is taken back to the input.")] = "pool5",
    start: Annotated[
        str,
        typer.Option(help="features, channel:N, neuron:N, neuron:C,Y,X, class or class:N."),
    ] = "features",
    scale: Annotated[str, typer.Option(help="official or perceptual.")] = "official",
    per_class: Annotated[int, typer.Option(min=1, help="ROIs of each class.")] = 1,
    pick: Annotated[int, typer.Option(help="Another number draws other ROIs.")] = 0,
    all_seeds: Annotated[bool, typer.Option(help="A column for each seed in Figure 6.")] = False,
    patches: Annotated[str, typer.Option(help="Layer of the strongest patches.")] = "conv2",
    images: Annotated[int, typer.Option(min=4, help="Test images for the numbers.")] = 200,
) -> None:
    """Figure 6, its control, conv1's filters, strongest patches, and their numbers."""
    from rich.console import Console

    from stagetransfer.explain.colour_scales import SCALES
    from stagetransfer.explain.compared_runs import METHODS, View, open_study
    from stagetransfer.explain.write_figures import write_pictures

    for key, value, legal in (("--method", method, tuple(METHODS)), ("--scale", scale, SCALES)):
        if value not in legal:
            raise UserError(f"{key} {value}: none of {', '.join(legal)}")
    study = open_study(runs, ratio, seed or [])
    out = out or study.runs[0].folder.parent.parent / "visualization"
    console = Console(highlight=False)
    write_pictures(
        study,
        out,
        View(method, layer, _seed(start)),
        scale=scale,
        per_class=per_class,
        pick=pick,
        several_seeds=all_seeds,
        patch_layer=patches,
        images=images,
        say=console.print,
    )
    console.print(f"written  {out / 'summary.md'}", soft_wrap=True)


def _seed(text: str) -> Seed:
    kind, _, numbers = text.partition(":")
    try:
        places = tuple(int(number) for number in numbers.split(",")) if numbers else ()
    except ValueError:
        places = (-1,)
    match kind, places:
        case "features", ():
            return "features"
        case "class", ():
            return "class"
        case "class", (number,):
            return ("class", number)
        case "channel", (number,):
            return ("channel", number)
        case "neuron", (number,):
            return ("neuron", number)
        case "neuron", (_, _, _):
            return ("neuron", places)
    raise UserError(
        f"--start {text}: none of features, channel:N, neuron:N, neuron:C,Y,X, class, class:N"
    )
