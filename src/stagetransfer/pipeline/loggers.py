"""The loggers of a stage, from the config group `logger`.

Texts in a logger's settings may hold `{folder}` (where the stage's files are written), `{stage}`
(its number and name, such as 2-texture) and `{run}` (the name of the run that trains it).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.utilities.seed import isolate_rng

from stagetransfer.config.instantiate import partial_of
from stagetransfer.errors import UserError, first_line
from stagetransfer.files import write_text
from stagetransfer.pipeline.distributed import is_follower

# Where the default loggers write, below a stage's folder. What the stages before wrote is copied
# there, so that a run's folder shows its whole chain.
LOG_FOLDERS = ("tensorboard", "logs")


def stage_loggers(
    loggers: Mapping[str, Any], folder: Path, stage: str, run: str, *, resuming: bool
) -> list[Logger]:
    """Return new loggers for one training of a stage; UserError if one cannot be built.

    Args:
        loggers: name -> `_target_` and keywords.
        folder, stage, run: what the placeholders stand for.
        resuming: whether the training continues an earlier one, whose curves are then kept.
    """
    values = {"folder": str(folder), "stage": stage, "run": run}
    made: list[Logger] = []
    for name, settings in loggers.items():
        build = partial_of(_filled(settings, values), f"logger.{name}")
        try:
            logger = build()
        except ModuleNotFoundError as error:
            raise UserError(
                f"logger.{name}: a package is not installed ({first_line(error)}). "
                f"Install it, for example with pip install 'stagetransfer[{name}]'"
            ) from error
        if isinstance(logger, CSVLogger):
            _keep_earlier(Path(logger.log_dir), resuming)
        made.append(_isolated(logger))
    return made


def _isolated(logger: Logger) -> Logger:
    """Let no random number that the logger draws be missing in the training.

    TensorBoard would show the epoch's number, which says nothing, before all other curves.
    """
    for name in ("log_hyperparams", "log_metrics", "save", "after_save_checkpoint"):
        setattr(logger, name, isolate_rng()(getattr(logger, name)))
    if isinstance(logger, TensorBoardLogger):
        log_metrics = logger.log_metrics

        def without_epoch(metrics: Mapping[str, float], step: int | None = None) -> None:
            log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)

        logger.log_metrics = without_epoch  # type: ignore[method-assign]
    return logger


def _filled(setting: Any, values: Mapping[str, str]) -> Any:
    if isinstance(setting, str):
        for name, value in values.items():
            setting = setting.replace(f"{{{name}}}", value)
        return setting
    if isinstance(setting, Mapping):
        return {key: _filled(value, values) for key, value in setting.items()}
    return setting


def _keep_earlier(folder: Path, resuming: bool) -> None:
    """Rename the curves of an interrupted training, which CSVLogger would delete.

    A killed process or a full disk may have cut the last line, which is then left out.
    """
    earlier = folder / "metrics.csv"
    if is_follower() or not earlier.is_file():
        return
    if resuming:
        count = len(list(folder.glob("metrics-*.csv")))
        text = earlier.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        if len(lines) > 1:  # the first is the header
            write_text(folder / f"metrics-{count + 1}.csv", "".join(lines))
        earlier.unlink()
    else:
        for file in folder.glob("metrics*.csv"):
            file.unlink()
