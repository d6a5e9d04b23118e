"""`stagetransfer advise`: which source to take for a target, and how deep to tune."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import new_folder


def advise(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="The target and the model, as for train: domain/target=csv ..."),
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            help="Outputs folder with trained stages, file with weights, or the name of published "
            "weights; repeat. (default: the folder paths.outputs)"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write; default: advise/ below paths.outputs.", callback=new_folder
        ),
    ] = None,
) -> None:
    """Rank sources for a target by probes on its training images; the test set is not read."""
    from stagetransfer.advise import advise as rank
    from stagetransfer.advise import find_candidates
    from stagetransfer.advise.advice_page import advice_page
    from stagetransfer.advise.block_features import block_features
    from stagetransfer.advise.probe import divide
    from stagetransfer.config.compose import compose_settings
    from stagetransfer.config.validate import check_folders
    from stagetransfer.data import DomainDataModule
    from stagetransfer.data.samples import UNKNOWN_GROUPS
    from stagetransfer.errors import UserError
    from stagetransfer.files import filled_folder
    from stagetransfer.pipeline.stage_data import stage_data
    from stagetransfer.reporting.render import write_report

    words = list(overrides or [])
    config = compose_settings(["chain=[target]", *words])
    check_folders(config)
    given = sources or [str(config.outputs)]
    candidates, left_out = find_candidates(given, config.model)
    data = stage_data(config, config.stages[-1])
    if not isinstance(data, DomainDataModule):
        raise UserError("advise: the target must have images")
    rows = data.rows["train"]
    groups = data.samples.groups
    of_images = None if groups is None else [groups[row] for row in rows]
    divisions = divide(data.samples.labels[rows], of_images, data.classes)
    folder = out or config.outputs / "advise"
    features = {}
    for one in candidates:
        typer.echo(f"features  {one.name}")
        features[one.name] = [
            block_features(network, data, folder / "features") for network in one.networks
        ]
    advice = rank(candidates, features, divisions, of_images)
    doubts = [f"left out: {line}" for line in left_out]
    doubts += [UNKNOWN_GROUPS] if of_images is None and data.settings.root else []
    first = [one for one in advice.ranking if one.candidate.words][:3]
    commands = [["+experiment=scratch", *words]]
    for ranked in first:
        tuned = f"transfer.tune_from={ranked.tune_from}"
        commands.append([*ranked.candidate.words, *words, tuned])
    lines = [f"python train.py {shlex.join(command)}" for command in commands]
    with filled_folder(folder) as part:
        write_report("StageTransfer advice", advice_page(advice, doubts, lines), part)
    typer.echo(advice.table()[["candidate", "tune_from", "recall", "gain"]].to_string(index=False))
    typer.echo(advice.sentence)
    typer.echo(f"written  {folder / 'report.html'}")
