"""The whole procedure of `stagetransfer advise`: from the words of a command to the page."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from stagetransfer.advise.advice import advise
from stagetransfer.advise.advice_page import advice_page
from stagetransfer.advise.alike import SomeImages, alike, read_sources, some_positions, unlike_all
from stagetransfer.advise.block_features import Features, block_features, gradient_norms
from stagetransfer.advise.candidates import RANDOM, check_words, find_candidates
from stagetransfer.advise.fine_tuned import cka_to_own, own_networks
from stagetransfer.advise.judge import FILE
from stagetransfer.advise.outcomes import left_out, network_name, outcomes, prior, read_finished
from stagetransfer.advise.probe import divide
from stagetransfer.advise.short_trainings import (
    Tried,
    seconds_of,
    short_trainings,
    train_words,
    with_trainings,
)
from stagetransfer.config.compose import compose_settings
from stagetransfer.config.validate import check_folders
from stagetransfer.data import DomainDataModule
from stagetransfer.errors import UserError
from stagetransfer.files import json_text
from stagetransfer.layouts.samples import UNKNOWN_GROUPS
from stagetransfer.pages.render import replace_report
from stagetransfer.pipeline.stage_data import stage_data
from stagetransfer.statistics.transferability import feature_utility
from stagetransfer.training.machine import keep_freed_memory


def write_advice(
    words: list[str],
    sources: Sequence[str],
    out: Path | None,
    budget: str | None,
    say: Callable[[str], None],
) -> None:
    """Rank the sources for a target, and write the page and advice.json.

    UserError if the target, a source or the budget is impossible.

    Args:
        words: overrides of the target and the model, as for `train`.
        sources: outputs folders, files with weights or names of published weights; empty: the
            folder paths.outputs.
        out: the folder to write; None: `advise` below paths.outputs.
        budget: the time for short trainings of the first candidates, such as 20m.
        say: shows a line while the procedure runs.
    """
    keep_freed_memory()
    seconds = seconds_of(budget) if budget else 0.0
    config = compose_settings(["chain=[target]", *words])
    check_folders(config)
    given = sources or [str(config.outputs)]
    candidates, doubts = find_candidates(given, config.model)
    data = stage_data(config, config.stages[-1])
    if not isinstance(data, DomainDataModule):
        raise UserError("advise: the target must have images")
    candidates, no_words = check_words(candidates, words)
    rows = data.rows["train"]
    groups = data.samples.groups
    of_images = None if groups is None else [groups[row] for row in rows]
    divisions = divide(data.samples.labels[rows], of_images, data.classes)
    folder = out or config.outputs / "advise"
    kept, features, utility = folder / "features", dict[str, list[Features]](), dict[str, float]()
    for one in candidates:
        say(f"features  {one.name}")
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
    advice = advise(candidates, features, divisions, of_images, priors, more)
    tried: list[Tried] = []
    if seconds:
        tried = short_trainings(advice, words, seconds, say)
        advice = with_trainings(advice, tried)
    sources_data, not_read = read_sources(candidates, words)
    shown = next(
        (
            one
            for one in advice.ranking
            if not one.candidate.trained and one.candidate.name != RANDOM
        ),
        advice.ranking[0],
    ).candidate

    def some(of: DomainDataModule) -> SomeImages:
        found = block_features(shown.networks[0], of, kept, some_positions(of))
        return SomeImages(of, found[shown.blocks[-1]])

    looks = alike(some(data), {name: some(of) for name, of in sources_data.items()})
    doubts += [*no_words, *unlike_all(looks)]
    doubts += [f"left out: {line}" for line in (*left_out(finished), *no_cka, *not_read)]
    doubts += [UNKNOWN_GROUPS] if of_images is None and data.settings.root else []
    commands = [["+experiment=scratch", *words]]
    with_words = [one for one in advice.ranking if one.candidate.words]
    commands += [train_words(one, words) for one in with_words[:3]]
    lines = [f"python train.py {shlex.join(command)}" for command in commands]
    looked_by = f"{shown.name}, {shown.blocks[-1]}"
    page = advice_page(advice, tried, doubts, lines, looks, looked_by)
    network = network_name({f"model.{key}": value for key, value in asdict(config.model).items()})
    record = json_text({"target": data.fingerprint, "network": network, **advice.record()})
    replace_report("StageTransfer advice", page, folder, {FILE: record})
    say(advice.table()[["candidate", "tune_from", "recall", "gain"]].to_string(index=False))
    say(advice.sentence)
    say(f"written  {folder / 'report.html'}")
