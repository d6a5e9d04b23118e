"""Short trainings: the better half goes on, the budget ends them, and the pick is the best."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import SMALL
from stagetransfer.advise import short_trainings as room
from stagetransfer.advise.advice import Advice
from stagetransfer.advise.short_trainings import seconds_of, short_trainings, with_trainings
from stagetransfer.config.compose import compose_settings
from stagetransfer.errors import UserError
from stagetransfer.pipeline.chain import ChainRunner


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400)])
def test_a_budget(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["20", "m", "0m", "-3m", "20 minutes", ""])
def test_no_budget(text):
    with pytest.raises(UserError, match="--budget"):
        seconds_of(text)


def ranked(name):
    words = () if name == "random" else (f"chain=[{name},target]",)
    return SimpleNamespace(candidate=SimpleNamespace(name=name, words=words), tune_from="fc6")


NAMES = ("a", "b", "c", "d", "random")
ADVICE = Advice([ranked(name) for name in NAMES], None, ranked("a"), "Take a.", 0.5)
LOSSES = {"a": 0.9, "b": 0.5, "c": 0.7, "random": 0.6}


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Replace the training by a clock, ten seconds per epoch, and the losses above."""
    calls, now = [], [0.0]

    class Runner:
        def __init__(self, settings):
            self.settings = settings
            self.stages = [SimpleNamespace(epochs=settings.stages[-1].recipe.epochs)]

        def run(self):
            name = self.settings.chain[0] if len(self.settings.chain) > 1 else "random"
            epochs = self.stages[-1].epochs
            calls.append((name, epochs, self.settings.stages[-1].recipe.min_steps))
            now[0] += 10 * epochs
            folder = Path(tmp_path) / f"{len(calls)}"
            folder.mkdir()
            return folder

    def record(folder):
        name = calls[int(folder.name) - 1][0]
        health = {"recall": 1 - (LOSSES[name] or 0.9), "low": 0.1, "high": 0.9}
        return {"stages": [{"health": health, "validation": {"cross_entropy": LOSSES[name]}}]}

    def compose(words):
        given = dict(word.split("=", 1) for word in words)
        recipe = SimpleNamespace(
            epochs=int(given.get("++stage.target.recipe.epochs", 12)),
            min_steps=int(given.get("++stage.target.recipe.min_steps", 200)),
        )
        chain = given["chain"].strip("[]").split(",")
        depth = given.get("transfer.tune_from")
        assert (depth == "fc6") == (len(chain) > 1)
        return SimpleNamespace(chain=chain, stages=[SimpleNamespace(recipe=recipe)])

    monkeypatch.setattr(room, "ChainRunner", Runner)
    monkeypatch.setattr(room, "read_record", record)
    monkeypatch.setattr(room, "compose_settings", compose)
    monkeypatch.setattr(room, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return calls


def test_the_better_half_is_trained_by_the_whole_recipe(trained):
    tried = short_trainings(ADVICE, [], 3600, lambda _: None)
    assert trained == [
        ("a", 6, 100), ("b", 6, 100), ("c", 6, 100), ("random", 6, 100),
        ("b", 12, 200), ("random", 12, 200),
    ]  # fmt: skip
    assert [one.seconds for one in tried] == [60] * 4 + [120] * 2
    found = with_trainings(ADVICE, tried)
    assert found.pick.candidate.name == "b"
    assert "random 0.400" in found.sentence
    assert found.sentence.endswith("Before these trainings, the advice was: Take a.")


def test_a_diverged_training_is_the_worst(trained, monkeypatch):
    monkeypatch.setitem(LOSSES, "a", None)
    tried = short_trainings(ADVICE, [], 3600, lambda _: None)
    assert [one.ranked.candidate.name for one in tried[4:]] == ["b", "random"]
    assert tried[0].cross_entropy == math.inf


def test_no_training_begins_that_would_not_end_in_time(trained):
    said = []
    tried = short_trainings(ADVICE, [], 130, said.append)
    assert [one.ranked.candidate.name for one in tried] == ["a", "b"]
    assert said[-1] == "the budget is spent"
    assert with_trainings(ADVICE, tried).pick.candidate.name == "b"


def test_the_first_training_is_made_with_any_budget(trained):
    tried = short_trainings(ADVICE, [], 1e-3, lambda _: None)
    assert len(tried) == 1
    assert "no other candidate was trained for as long" in with_trainings(ADVICE, tried).sentence
    assert math.isclose(tried[0].cross_entropy, 0.9)
    assert json.dumps(trained) == '[["a", 6, 100]]'


def test_all_trainings_start_from_the_stored_stage_and_the_longest_is_an_ordinary_run(
    monkeypatch, tmp_path
):
    keys = []

    class Runner(ChainRunner):
        def run(self):
            keys.append([stage.key for stage in self.stages])

    health = {"recall": 0.5, "low": 0.1, "high": 0.9}
    record = {"stages": [{"health": health, "validation": {"cross_entropy": 1.0}}]}
    monkeypatch.setattr(room, "ChainRunner", Runner)
    monkeypatch.setattr(room, "read_record", lambda folder: record)
    words = [*SMALL, f"paths.outputs={tmp_path}", "recipe.epochs=4", "recipe.min_steps=80"]
    advice = Advice([ranked("texture"), ranked("random")], None, ranked("texture"), "", 0.5)
    short_trainings(advice, words, 3600, lambda _: None)
    command = [*words, "chain=[texture,target]", "transfer.tune_from=fc6"]
    source, target = (stage.key for stage in ChainRunner(compose_settings(command)).stages)
    (first_source, half), _, (last_source, whole) = keys
    assert first_source == last_source == source
    assert half != whole == target
