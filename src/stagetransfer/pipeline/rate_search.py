"""Searching the learning rate and the epochs of the target stage by successive halving.

Rung i trains each remaining learning rate for the i-th number of epochs, from the same start and
with the same seed; the better half goes on to the next rung (Jamieson and Talwalkar 2016, arXiv
1502.07943). Each training has a schedule of its own and is complete, so the best of all trainings
is chosen, not only of the last rung: a shorter training can win.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from stagetransfer.pipeline.search import Search
from stagetransfer.pipeline.stage import PreparedStage, with_found_rate, with_recipe
from stagetransfer.training import Fitted

T = TypeVar("T")


def successive_halving(
    candidates: Sequence[T], rungs: Sequence[int], score: Callable[[T, int], float]
) -> list[tuple[T, int]]:
    """Return the pairs (candidate, rung) that successive halving trains, in order.

    Args:
        score: trains a pair and returns how good it is; higher is better, -inf if it failed. Of
            equal ones the first goes on.
    """
    tried: list[tuple[T, int]] = []
    left = list(candidates)
    for rung in rungs:
        scores = [score(candidate, rung) for candidate in left]
        tried += [(candidate, rung) for candidate in left]
        ranked = sorted(range(len(left)), key=lambda i: -scores[i])  # stable: ties keep their order
        left = [left[i] for i in sorted(ranked[: math.ceil(len(left) / 2)])]
    return tried


def search_rates(search: Search) -> tuple[PreparedStage, Fitted, dict[str, Any]]:
    """Train the stage with the pairs of `recipe.search_rates` and `recipe.search_epochs`.

    If `recipe.min_steps` lengthens the shortest trainings, the others become longer in proportion.

    Returns:
        The stage with the settings of the best training, that training, and the record of the
        search.
    """
    prepared, found = with_found_rate(search.prepared, search.config, search.checkpoints)
    recipe = prepared.stage.recipe
    trained: dict[str, PreparedStage] = {}

    def score(factor: float, epochs: int) -> float:
        stage = with_recipe(
            prepared,
            epochs=epochs,
            optimizer={**recipe.optimizer, "lr": factor * recipe.optimizer["lr"]},
            search_rates=[],
            search_epochs=[],
        )
        stretched = round(epochs * prepared.epochs / recipe.search_epochs[0])
        name = f"rate-x{factor:.12g}-epochs-{stretched}"
        trained[name] = replace(stage, epochs=stretched)
        search.train(name, trained[name])
        return search.score(name)

    successive_halving(recipe.search_rates, recipe.search_epochs, score)
    tried = [
        {**_settings(stage), "validation": search.validation(name)}
        for name, stage in trained.items()
    ]
    chosen = trained[search.best]
    record = {"monitor": search.monitor, "tried": tried, **_settings(chosen)}
    return chosen, replace(search.finish(), learning_rate=found), record


def _settings(stage: PreparedStage) -> dict[str, Any]:
    return {"lr": stage.stage.recipe.optimizer["lr"], "epochs": stage.epochs}
