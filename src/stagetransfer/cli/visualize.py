"""`stagetransfer visualize`: saliency maps and measures of the features of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from stagetransfer.cli.options import OnlySettings, out_folder, run_argument, write_each_data_set
from stagetransfer.errors import UserError

if TYPE_CHECKING:
    from stagetransfer.explain import Start
    from stagetransfer.runs import Gathered


def visualize(
    runs: Annotated[list[Path], run_argument("Run folders, or folders that hold runs.")],
    out: Annotated[Path | None, out_folder("visualization/ beside runs/")] = None,
    only: OnlySettings = None,
    ratio: Annotated[
        float | None, Option(help="Use the runs with this ratio. (default: the largest)")
    ] = None,
    seed: Annotated[
        list[int] | None,
        Option(help="Use the runs with this seed. May be repeated. (default: all)"),
    ] = None,
    method: Annotated[
        str, Option(help="Saliency method: desalinet, deconvnet or salinet.")
    ] = "desalinet",
    layer: Annotated[
        str | None,
        Option(
            help="The layer whose output is projected back to the input. (default: the network's "
            "feature map)"
        ),
    ] = None,
    start: Annotated[
        str,
        Option(
            help="What is projected back: features, channel:N, neuron:N, neuron:C,Y,X, class or "
            "class:N."
        ),
    ] = "features",
    scale: Annotated[str, Option(help="Colour scale: official or perceptual.")] = "official",
    per_class: Annotated[int, Option(min=1, max=1000, help="Number of ROIs per class.")] = 1,
    pick: Annotated[int, Option(min=0, help="Seed of the random choice of ROIs.")] = 0,
    all_seeds: Annotated[
        bool, Option(help="Show one column per seed in Figure 6, not only the lowest seed.")
    ] = False,
    patches: Annotated[
        str | None,
        Option(
            help="The layer for which the patches with the strongest response are shown. "
            "(default: the second block)"
        ),
    ] = None,
    images: Annotated[
        int, Option(min=4, max=100_000, help="Approximate number of test images for the measures.")
    ] = 200,
) -> None:
    """Write Figure 6 with its control, first filters, strongest patches, and feature measures."""
    from stagetransfer import explain
    from stagetransfer.training.machine import keep_freed_memory

    allowed = {"--method": (method, explain.METHODS), "--scale": (scale, explain.SCALES)}
    for key, (value, choices) in allowed.items():
        if value not in choices:
            raise UserError(f"{key} {value}: unknown. Use one of {', '.join(choices)}.")
    keep_freed_memory()
    saliency = explain.SaliencyMethod(method, layer, _parse_start(start))

    def write(found: Gathered, folder: Path) -> list[str]:
        folders = [part.folder for run in found.runs for part in run.parts]
        notes = explain.write_visualization(
            explain.open_compared_runs(folders, ratio, seed or []),
            folder,
            saliency,
            scale=scale,
            per_class=per_class,
            roi_seed=pick,
            all_seeds=all_seeds,
            patch_layer=patches,
            images=images,
        )
        lines = [f"left out: {run.folder.name} is unfinished" for run in found.unfinished]
        return [*notes, *lines, f"written  {folder / 'summary.md'}"]

    write_each_data_set(write, runs, out, "visualization", only)


def _parse_start(text: str) -> Start:
    kind, _, numbers = text.partition(":")
    try:
        positions = tuple(int(number) for number in numbers.split(",")) if numbers else ()
    except ValueError:
        positions = (-1,)
    match kind, positions:
        case ("features" | "class") as whole, ():
            return whole
        case "class", (number,):
            return "class", number
        case "channel", (number,):
            return "channel", number
        case "neuron", (number,):
            return "neuron", number
        case "neuron", (_, _, _):
            return "neuron", positions
    raise UserError(
        f"--start {text}: unknown. "
        "Use features, channel:N, neuron:N, neuron:C,Y,X, class or class:N."
    )
