"""Bookkeeping of a search: a stage is trained with several settings, and the best one is kept."""

import json
import logging
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stagetransfer.config.schema import RunConfig
from stagetransfer.files import atomic_path, read_json, write_text
from stagetransfer.names import choosing_metric
from stagetransfer.pipeline.loggers import LOG_FOLDERS
from stagetransfer.pipeline.stage import PreparedStage, train
from stagetransfer.training import Fitted, Losses, TransferRecord

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
        self._done: dict[str, Any] = read_json(self._file) if self._file.is_file() else {}

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
