"""Short real trainings of the first candidates, by successive halving within a time budget."""

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from stagetransfer.advise.advice import Advice, Ranked
from stagetransfer.advise.candidates import RANDOM, join_words
from stagetransfer.config.compose import compose_settings
from stagetransfer.errors import UserError
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.search import successive_halving
from stagetransfer.runs.reader import read_record

SHARES = (2, 1)  # of the recipe's epochs and least steps: half of them, then all
MOST = 4  # candidates, random weights among them
TARGET = "++stage.target.recipe"
SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Tried:
    """A training: its candidate, epochs and wall time, and figures on the validation images."""

    ranked: Ranked
    epochs: int
    seconds: float
    cross_entropy: float
    recall: float
    low: float
    high: float


class _OutOfTimeError(Exception):
    pass


def seconds_of(budget: str) -> float:
    """Return the seconds of a budget such as 90s, 20m or 1.5h; UserError if it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", budget.strip())
    if found is None or not float(found[1]):
        raise UserError(f"--budget {budget}: give a time such as 90s, 20m or 2h")
    return float(found[1]) * SECONDS[found[2]]


def short_trainings(
    advice: Advice, words: Sequence[str], seconds: float, say: Callable[[str], None]
) -> list[Tried]:
    """Train the first candidates and random weights by half the recipe, the better half by all.

    They are ordinary runs, whose test results are not read. The lower cross-entropy on validation
    images goes on. No training begins that is expected to end after the budget, except the first.

    `words` are overrides of train.py for the target and the model; `say` shows a line per training.
    """
    first = [one for one in advice.ranking if one.candidate.words][: MOST - 1]
    first += [one for one in advice.ranking if one.candidate.name == RANDOM]
    recipe = compose_settings(["chain=[target]", *words]).stages[-1].recipe
    began, tried = time.monotonic(), list[Tried]()

    def score(ranked: Ranked, share: int) -> float:
        spent = time.monotonic() - began
        per_epoch = max((of.seconds / of.epochs for of in tried), default=0.0)
        shorter = list[str]()
        if share > 1:  # of the target alone: with another recipe, the sources would be other stages
            shorter.append(f"{TARGET}.epochs={max(1, round(recipe.epochs / share))}")
            if recipe.min_steps:
                shorter.append(f"{TARGET}.min_steps={recipe.min_steps // share}")
        runner = ChainRunner(compose_settings([*train_words(ranked, words), *shorter]))
        epochs = runner.stages[-1].epochs
        if tried and spent + per_epoch * epochs > seconds:
            raise _OutOfTimeError
        start = time.monotonic()
        last = read_record(runner.run())["stages"][-1]
        health, loss = last["health"], last["validation"]["cross_entropy"]
        loss = math.inf if loss is None else float(loss)  # it diverged
        figures = loss, health["recall"], health["low"], health["high"]
        tried.append(Tried(ranked, epochs, time.monotonic() - start, *figures))
        name = ranked.candidate.name
        say(f"trained  {name}, {epochs} epochs: validation recall {health['recall']:.3f}")
        return -loss

    try:
        successive_halving(first, SHARES, score)
    except _OutOfTimeError:
        say("the budget is spent")
    return tried


def train_words(ranked: Ranked, words: Sequence[str]) -> list[str]:
    """Return the overrides of train.py that tune from a candidate, or train from random weights."""
    if ranked.candidate.name == RANDOM:
        return [*words, "chain=[target]"]
    return [*join_words(words, ranked.candidate), f"transfer.tune_from={ranked.tune_from}"]


def with_trainings(advice: Advice, tried: Sequence[Tried]) -> Advice:
    """Return the advice with the candidate that was best in the longest trainings as its pick."""
    longest = [one for one in tried if one.epochs == max(of.epochs for of in tried)]
    best = min(longest, key=lambda one: one.cross_entropy)
    others = ", ".join(
        f"{one.ranked.candidate.name} {one.recall:.3f}" for one in longest if one is not best
    )
    none = "no other candidate was trained for as long"
    how = f"; macro recall of the others: {others}." if others else f"; {none}."
    text = (
        f"In short trainings ({best.epochs} epochs, one seed), {best.ranked.candidate.name} had "
        f"the lowest validation loss, with a macro recall of {best.recall:.3f} [{best.low:.3f}, "
        f"{best.high:.3f}]{how}"
    )
    before = f"Before these trainings, the advice was: {advice.sentence}"
    return replace(advice, pick=best.ranked, sentence=f"{text} {before}")
