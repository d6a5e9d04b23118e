"""The search of learning rate and epochs: successive halving, its record, and its resumption."""

import math

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from conftest import REPOSITORY
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.pipeline import search as search_module
from stagetransfer.pipeline.checks import stage_epochs
from stagetransfer.pipeline.search import successive_halving
from stagetransfer.reporting.limits import further_limits
from stagetransfer.runs.reader import read_runs
from stagetransfer.runs.study import Study

SEARCH = (
    "+experiment=scratch", "recipe.search_rates=[3,1]", "recipe.search_epochs=[1,2]",
    "recipe.min_steps=0", "recipe.optimizer.lr=0.01",
)  # fmt: skip


class Killed(Exception):
    pass


@pytest.fixture
def trained(monkeypatch):
    """The pairs (learning rate, epochs) that are trained; "kill_at" ends the process before one."""
    original, pairs = search_module.train, []

    def spy(prepared, *arguments, **options):
        pair = (prepared.stage.recipe.optimizer["lr"], prepared.epochs)
        if pair == spy.kill_at:
            raise Killed
        pairs.append(pair)
        return original(prepared, *arguments, **options)

    spy.kill_at = None
    spy.pairs = pairs
    monkeypatch.setattr(search_module, "train", spy)
    return spy


def test_the_better_half_goes_on_and_ties_keep_their_order():
    scores = {
        (1, 6): 0.5, (2, 6): 0.7, (3, 6): 0.7, (4, 6): -math.inf, (5, 6): 0.7,
        (2, 12): 0.1, (3, 12): 0.2, (5, 12): 0.2,
        (3, 24): 0.0, (5, 24): 0.9,
    }  # fmt: skip
    tried = []

    def score(*pair):
        tried.append(pair)
        return scores[pair]

    successive_halving([1, 2, 3, 4, 5], [6, 12, 24], score)
    assert tried == list(scores)


@given(
    st.lists(st.floats(0.01, 9), min_size=1, max_size=7, unique=True),
    st.lists(st.integers(1, 50), min_size=1, max_size=4, unique=True).map(sorted),
    st.randoms(use_true_random=False),
)
def test_the_budget_does_not_depend_on_the_figures(factors, rungs, random):
    tried = []

    def score(*pair):
        tried.append(pair)
        return random.random()

    successive_halving(factors, rungs, score)
    left = len(factors)
    for rung in rungs:
        assert sum(epochs == rung for _, epochs in tried) == left
        left = math.ceil(left / 2)


def test_the_best_of_all_trainings_is_chosen_and_only_it_is_tested(
    start, tmp_path, monkeypatch, trained
):
    from stagetransfer.pipeline import chain

    evaluate, tested = chain.evaluate, []

    def spy(*arguments, **options):
        tested.append(options.get("split", "test"))
        return evaluate(*arguments, **options)

    monkeypatch.setattr(chain, "evaluate", spy)
    run = start(tmp_path, *SEARCH, "recipe.monitor=last").run()
    record = read_json(run / "metrics.json")
    found = record["search_rates"]
    assert [(one["lr"], one["epochs"]) for one in found["tried"]] == trained.pairs
    assert trained.pairs[:2] == [(0.03, 1), (0.01, 1)]
    assert trained.pairs[2:] == [(min(found["tried"][:2], key=lambda x: x["validation"])["lr"], 2)]
    best = min(found["tried"], key=lambda one: one["validation"])
    assert found["monitor"] == "cross_entropy"
    assert (found["lr"], found["epochs"]) == (best["lr"], best["epochs"])
    assert tested == ["test"]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt"}
    # The chosen training is that of a run with these settings.
    single = start(
        tmp_path / "single", SEARCH[0], *SEARCH[3:], f"recipe.optimizer.lr={best['lr']}",
        f"recipe.epochs={best['epochs']}", "recipe.monitor=last",
    ).run()  # fmt: skip
    alone = read_json(single / "metrics.json")
    assert alone["stages"][-1]["validation"]["cross_entropy"] == best["validation"]
    assert (single / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    for folder in (run, single):  # the report draws its curves from here
        assert (folder / "logs/1-target/metrics.csv").is_file()
    # The report says what was chosen.
    (read,), _ = read_runs([run])
    assert f"{best['lr']:g} and {best['epochs']} (in 1 run)" in "\n".join(
        further_limits(Study([read]))
    )


def test_a_killed_search_repeats_no_finished_training(start, tmp_path, trained):
    whole = start(tmp_path / "whole", *SEARCH).run()
    pairs = trained.pairs[:]
    trained.pairs.clear()
    trained.kill_at = pairs[2]
    with pytest.raises(Killed):
        start(tmp_path / "broken", *SEARCH).run()
    trained.kill_at = None
    resumed = start(tmp_path / "broken", *SEARCH).run()
    assert trained.pairs == pairs  # each once, in both processes together
    one, other = (read_json(run / "metrics.json") for run in (whole, resumed))
    assert one["search_rates"] == other["search_rates"]
    assert (whole / "predictions.csv").read_bytes() == (resumed / "predictions.csv").read_bytes()


def test_every_rung_becomes_longer_in_proportion(start, tmp_path, monkeypatch):
    """With at least 12 steps for the shortest trainings, the others stay twice as long."""
    runner = start(tmp_path, *SEARCH, "recipe.min_steps=12")
    shortest = stage_epochs(runner.config, runner.config.stages[-1], runner.stages[-1].data)
    assert shortest > 1
    monkeypatch.setattr(search_module.Search, "train", lambda *_: None)
    monkeypatch.setattr(search_module.Search, "score", lambda *_: 0.0)
    monkeypatch.setattr(search_module.Search, "validation", lambda *_: 0.0)
    monkeypatch.setattr(search_module.Search, "best", f"rate-x3-epochs-{2 * shortest}")
    monkeypatch.setattr(search_module.Search, "finish", lambda self: FITTED)
    from stagetransfer.pipeline.search import search_rates
    from stagetransfer.training import Fitted, Losses, TransferRecord

    FITTED = Fitted(tmp_path, 1, 1, 0.0, 0.0, {}, Losses(), TransferRecord())
    target = runner.stages[-1]
    found = search_rates(
        search_module.Search(target, runner.config, tmp_path, logs=tmp_path, run="run")
    )
    assert [one["epochs"] for one in found[2]["tried"]] == [shortest, shortest, 2 * shortest]


def test_each_condition_of_the_fair_sweep_has_the_same_budget(compose_config):
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=["+sweep=fair"], return_hydra_config=True)
    params = cfg.hydra.sweeper.params
    assert math.prod(len(values.split(",")) for values in params.values()) == 24
    conditions = params["+experiment"].split(",")
    assert conditions == ["scratch", "natural", "texture", "two_stage"]
    settings = [
        validate_config(compose_config("+sweep=fair", f"+experiment={name}", "seed=2"))
        for name in conditions
    ]
    recipes = [one.stages[-1].recipe for one in settings]
    assert all(recipe == recipes[0] for recipe in recipes)
    assert (recipes[0].search_rates, recipes[0].search_epochs) == ([0.3, 1, 3], [6, 12, 24])
    assert [one.source_seed for one in settings] == [2, 2, 2, 2]
    sources = [stage for one in settings for stage in one.stages[:-1]]
    assert all(not stage.recipe.search_rates + stage.recipe.search_epochs for stage in sources)


def test_sources_are_those_of_a_run_without_a_search(start, tmp_path):
    search = [word for word in SEARCH if "search" in word]
    plain, searched = (
        start(tmp_path, "+experiment=natural", "recipe.min_steps=0", *more) for more in ([], search)
    )
    assert plain.stages[0].key == searched.stages[0].key
    assert plain.stages[1].key != searched.stages[1].key


BOTH = ["recipe.search_rates=[1]", "recipe.search_epochs=[6]"]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (BOTH[:1], "recipe.search_rates: it needs recipe.search_epochs too"),
        (BOTH[1:], "recipe.search_epochs: it needs recipe.search_rates too"),
        (["recipe.search_rates=[1,0]", BOTH[1]], "give different numbers greater than 0"),
        (["recipe.search_rates=[1,-3]", BOTH[1]], "give different numbers greater than 0"),
        (["recipe.search_rates=[1,1]", BOTH[1]], "give different numbers greater than 0"),
        (["recipe.search_rates=[inf]", BOTH[1]], "give different numbers greater than 0"),
        ([BOTH[0], "recipe.search_epochs=[6,6]"], "give increasing numbers, 1 or more"),
        ([BOTH[0], "recipe.search_epochs=[12,6]"], "give increasing numbers, 1 or more"),
        ([BOTH[0], "recipe.search_epochs=[0,6]"], "give increasing numbers, 1 or more"),
        ([*BOTH, "transfer.search=[fc6]"], "transfer.search and recipe.search_rates exclude each"),
        ([*BOTH, "trainer.devices=2"], "recipe.search_rates needs trainer.devices=1"),
        ([*BOTH, "transfer.probe_epochs=6"], "less than recipe.search_epochs=6"),
        (
            ["++stage.natural.recipe.search_rates=[1]"],
            "stage.natural.recipe.search_rates: only the target's recipe can be searched",
        ),
    ],
)
def test_bad_settings_of_a_search_get_one_line(compose_config, overrides, line):
    with pytest.raises(UserError) as caught:
        validate_config(compose_config("+experiment=natural", *overrides))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_search_whose_shortest_trainings_are_too_short_is_refused(start, tmp_path):
    with pytest.raises(UserError, match=r"stage target: 1 epochs of .* too few to learn from"):
        start(tmp_path, *SEARCH, "recipe.min_steps=null")
