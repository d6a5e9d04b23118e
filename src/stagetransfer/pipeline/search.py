"""Searches: a stage is trained with several settings, and the best on validation data is kept.

The tuning depth is searched exhaustively, the learning rate and the epochs by successive halving:
rung i trains each remaining learning rate for the i-th number of epochs, from the same start and
with the same seed; the better half goes on to the next rung (Jamieson and Talwalkar 2016, arXiv
1502.07943). Each training has a schedule of its own and is complete, so the best of all trainings
is chosen, not only of the last rung: a shorter training can win.
"""

import json
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from stagetransfer.config.schema import RunConfig
from stagetransfer.files import atomic_path, read_json, write_text
from stagetransfer.models import build_backbone
from stagetransfer.names import choosing_metric
from stagetransfer.pipeline.loggers import LOG_FOLDERS
from stagetransfer.pipeline.stage import PreparedStage, train, with_found_rate, with_recipe
from stagetransfer.training import Fitted, Losses, TransferRecord, searched_blocks

log = logging.getLogger(__name__)


class Search:
    """Several trainings of one stage, compared by a figure of the validation images.

    The figure is `recipe.monitor`, or cross_entropy where that is "last". Each training equals that
    of a run with its settings. A killed search continues where it stopped: search.json lists the
    finished trainings.

    Args:
        prepared: the stage with the settings of the search.
        checkpoints: folder that gets search.json, and best.ckpt of the best training.
        logs, run: see `stagetransfer.pipeline.stage.train`.
    """

    def __init__(
        self, prepared: PreparedStage, config: RunConfig, checkpoints: Path, *, logs: Path, run: str
    ) -> None:
        self.prepared, self.config = prepared, config
        self.checkpoints, self.logs, self.run = checkpoints, logs, run
        self.monitor = choosing_metric(prepared.stage.recipe.monitor)
        self._file = checkpoints / "search.json"
        cure = "Remove it, and the search starts again."
        self._done: dict[str, Any] = read_json(self._file, cure) if self._file.is_file() else {}

    def train(self, name: str, stage: PreparedStage) -> None:
        """Train the stage with the settings that `name` stands for, unless it has been done."""
        own = self.checkpoints / name
        if name not in self._done:
            _, _, fitted = train(
                stage, self.config, checkpoints=own, logs=self.logs, run=self.run, suffix=f"-{name}"
            )
            self._done[name] = {**asdict(fitted), "best": ""}
            if self.best == name:
                with atomic_path(self.checkpoints / "best.ckpt") as part:
                    shutil.copyfile(fitted.best, part)
            write_text(self._file, json.dumps(self._done))  # may hold NaN, unlike write_json
            log.info("  %s: validation %s %.4f", name, self.monitor, self.validation(name))
        shutil.rmtree(own, ignore_errors=True)

    def validation(self, name: str) -> float:
        """Return the validation figure of a finished training; NaN if it diverged."""
        return float(self._done[name]["validation"][self.monitor])

    def score(self, name: str) -> float:
        """Return the validation figure with the sign that makes higher values better."""
        figure = self.validation(name)
        if not math.isfinite(figure):
            return -math.inf
        return -figure if self.monitor == "cross_entropy" else figure

    @property
    def best(self) -> str:
        """The name of the best finished training, the first of several equal ones."""
        return max(self._done, key=self.score)

    def finish(self) -> Fitted:
        """Return the best training, and copy its logs to where those of a single training are."""
        best, title = self.best, self.prepared.title
        for folder in (self.logs / name for name in LOG_FOLDERS):
            if (folder / f"{title}-{best}").is_dir():
                shutil.copytree(folder / f"{title}-{best}", folder / title, dirs_exist_ok=True)
        log.info("  best on the validation images: %s", best)
        found = self._done[best]
        return Fitted(
            **found
            | {
                "best": self.checkpoints / "best.ckpt",
                "transfer": TransferRecord(**found["transfer"]),
                "losses": Losses(**found["losses"]),
            }
        )


def at_depth(prepared: PreparedStage, depth: str) -> PreparedStage:
    """Return the same stage, tuned from one block on."""
    assert prepared.stage.transfer is not None
    transfer = replace(prepared.stage.transfer, tune_from=depth, search=[])
    return replace(prepared, stage=replace(prepared.stage, transfer=transfer))


def search_depth(search: Search) -> tuple[PreparedStage, Fitted, dict[str, Any]]:
    """Train the stage at each depth of its `transfer.search`; choose one on validation data.

    Each training equals that of a run with this one `transfer.tune_from`. Return the stage at the
    best depth, its training, and the record of the search.
    """
    prepared = search.prepared
    assert prepared.stage.transfer is not None
    network = build_backbone(search.config.model, 2)
    depths = searched_blocks(prepared.stage.transfer, network)
    for depth in depths:
        search.train(depth, at_depth(prepared, depth))
    record = {
        "monitor": search.monitor,
        "validation": {depth: search.validation(depth) for depth in depths},
        "chosen": search.best,
    }
    return at_depth(prepared, search.best), search.finish(), record


T = TypeVar("T")


def successive_halving(
    candidates: Sequence[T], rungs: Sequence[int], score: Callable[[T, int], float]
) -> None:
    """Train pairs (candidate, rung) by successive halving.

    `score` trains a pair and returns how good it is; higher is better, -inf if it failed. Of equal
    ones the first goes on.
    """
    left = list(candidates)
    for rung in rungs:
        scores = [score(candidate, rung) for candidate in left]
        ranked = sorted(range(len(left)), key=lambda i: -scores[i])  # stable: ties keep their order
        left = [left[i] for i in sorted(ranked[: math.ceil(len(left) / 2)])]


def search_rates(search: Search) -> tuple[PreparedStage, Fitted, dict[str, Any]]:
    """Train the stage with the pairs of `recipe.search_rates` and `recipe.search_epochs`.

    If `recipe.min_steps` lengthens the shortest trainings, the others become longer in proportion.
    Return the stage with the settings of the best training, that training, and the record.
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
