"""`stagetransfer advise`: which source to take for a target, and how deep to tune."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import out_folder
from stagetransfer.errors import UserError


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
    out: Annotated[Path | None, out_folder("advise/ below paths.outputs")] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time for short trainings of the first candidates, such as 20m. (default: none)"
        ),
    ] = None,
    judge: Annotated[
        list[Path] | None,
        typer.Option(
            help="Outputs folder with earlier advice and finished runs, which are compared; repeat."
        ),
    ] = None,
) -> None:
    """Rank sources for a target by probes on its training images; the test set is not read."""
    if judge:
        if overrides or sources:
            raise UserError("--judge: takes no target and no --sources. Leave them out")
        _judge(judge, out)
        return
    from stagetransfer.advise import advise as rank
    from stagetransfer.advise import find_candidates
    from stagetransfer.advise.advice_page import advice_page
    from stagetransfer.advise.alike import SomeImages, alike, read_sources, some_positions
    from stagetransfer.advise.block_features import Features, block_features, gradient_norms
    from stagetransfer.advise.fine_tuned import cka_to_own, own_networks
    from stagetransfer.advise.judge import FILE
    from stagetransfer.advise.outcomes import network_name, outcomes, prior, read_finished
    from stagetransfer.advise.probe import divide
    from stagetransfer.advise.short_trainings import (
        Tried,
        seconds_of,
        short_trainings,
        with_trainings,
    )
    from stagetransfer.config.compose import compose_settings
    from stagetransfer.config.validate import check_folders
    from stagetransfer.data import DomainDataModule
    from stagetransfer.files import json_text
    from stagetransfer.layouts.samples import UNKNOWN_GROUPS
    from stagetransfer.pages.render import replace_report
    from stagetransfer.pipeline.stage_data import stage_data
    from stagetransfer.statistics.transferability import feature_utility
    from stagetransfer.training.machine import keep_freed_memory

    keep_freed_memory()
    seconds = seconds_of(budget) if budget else 0.0
    words = list(overrides or [])
    config = compose_settings(["chain=[target]", *words])
    check_folders(config)
    given = sources or [str(config.outputs)]
    candidates, doubts = find_candidates(given, config.model)
    data = stage_data(config, config.stages[-1])
    if not isinstance(data, DomainDataModule):
        raise UserError("advise: the target must have images")
    rows = data.rows["train"]
    groups = data.samples.groups
    of_images = None if groups is None else [groups[row] for row in rows]
    divisions = divide(data.samples.labels[rows], of_images, data.classes)
    folder = out or config.outputs / "advise"
    kept, features, utility = folder / "features", dict[str, list[Features]](), dict[str, float]()
    for one in candidates:
        typer.echo(f"features  {one.name}")
        features[one.name] = [block_features(network, data, kept) for network in one.networks]
        norms = [gradient_norms(network, data, kept) for network in one.networks]
        utility[one.name] = sum(feature_utility(**of) for of in norms) / len(norms)
    finished = read_finished([Path(one) for one in given])
    ranks = prior(outcomes(finished), data.fingerprint)
    priors = {str(name): float(rank) for name, rank in ranks.items()}
    own, no_cka = own_networks(finished, data, config.model)
    of_own = [block_features(network, data, kept) for network in own]
    cka = cka_to_own(features, of_own, candidates[0].blocks)
    more = {"feature utility": utility, "CKA": cka}
    advice = rank(candidates, features, divisions, of_images, priors, more)
    tried: list[Tried] = []
    if seconds:
        tried = short_trainings(advice, words, seconds, typer.echo)
        advice = with_trainings(advice, tried)
    sources_data, not_read = read_sources(candidates, words)
    shown = next(
        (one for one in advice.ranking if one.candidate.trained == 0 and one.candidate.words),
        advice.ranking[0],
    ).candidate

    def some(of: DomainDataModule) -> SomeImages:
        found = block_features(shown.networks[0], of, kept, some_positions(of))
        return SomeImages(of, found[shown.blocks[-1]])

    looks = alike(some(data), {name: some(of) for name, of in sources_data.items()})
    doubts += [f"left out: {line}" for line in (*no_cka, *not_read)]
    doubts += [UNKNOWN_GROUPS] if of_images is None and data.settings.root else []
    first = [one for one in advice.ranking if one.candidate.words][:3]
    commands = [["+experiment=scratch", *words]]
    for ranked in first:
        tuned = f"transfer.tune_from={ranked.tune_from}"
        commands.append([*ranked.candidate.words, *words, tuned])
    lines = [f"python train.py {shlex.join(command)}" for command in commands]
    looked_by = f"{shown.name}, {shown.blocks[-1]}"
    page = advice_page(advice, tried, doubts, lines, looks, looked_by)
    network = network_name({f"model.{key}": value for key, value in asdict(config.model).items()})
    about = {"target": data.fingerprint, "network": network}
    record = json_text({**about, **advice.record()})
    replace_report("StageTransfer advice", page, folder, {FILE: record})
    typer.echo(advice.table()[["candidate", "tune_from", "recall", "gain"]].to_string(index=False))
    typer.echo(advice.sentence)
    typer.echo(f"written  {folder / 'report.html'}")


def _judge(folders: list[Path], out: Path | None) -> None:
    from stagetransfer.advise.judge import judgement, read_judged
    from stagetransfer.files import csv_text, write_text

    judged, lines = read_judged(folders)
    typer.echo("".join(f"not judged: {line}\n" for line in lines), nl=False)
    if not judged:
        raise UserError(f"{folders[0]}: no advice has finished runs of two of its candidates")
    table = judgement(judged)
    file = (out or folders[0] / "advise") / "judgement.csv"
    write_text(file, csv_text(table))
    typer.echo(f"{'ranked by':<26}{'targets':>8}{'tau':>7}{'points lost':>13}{'near best':>11}")
    for row in table.to_dict("records"):
        numbers = f"{row['tau']:>7.2f}{row['lost']:>13.2f}{row['near']:>11.2f}"
        typer.echo(f"{row['ranked_by']:<26}{row['targets']:>8}{numbers}")
    typer.echo(f"written  {file}")
