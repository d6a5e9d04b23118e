"""Searching the tuning depth: each is trained, the best on validation data is tested."""

import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from stagetransfer.config.schema import RunConfig
from stagetransfer.files import atomic_path, read_json, write_json
from stagetransfer.pipeline.stage import PreparedStage, train
from stagetransfer.training import Fitted, Losses, TransferRecord

log = logging.getLogger(__name__)


def at_depth(prepared: PreparedStage, depth: str) -> PreparedStage:
    """Return the same stage, tuned from one layer on."""
    assert prepared.stage.transfer is not None
    transfer = replace(prepared.stage.transfer, tune_from=depth, search=[])
    return replace(prepared, stage=replace(prepared.stage, transfer=transfer))


def search_depth(
    prepared: PreparedStage, config: RunConfig, *, checkpoints: Path, logs: Path, run: str
) -> tuple[PreparedStage, Fitted, dict[str, Any]]:
    """Train the stage at each depth of its `transfer.search`; choose one on validation data.

    Each training equals that of a run with this one `transfer.tune_from`. Of equal depths the first
    is chosen. A killed search continues where it stopped: search.json lists the finished depths.

    Args:
        checkpoints: folder that gets best.ckpt of the best depth.
        logs, run: see `stagetransfer.pipeline.stage.train`.

    Returns:
        The stage at the best depth, its training, and the record of the search.
    """
    assert prepared.stage.transfer is not None
    monitor, file = prepared.stage.recipe.monitor, checkpoints / "search.json"
    monitor = "cross_entropy" if monitor == "last" else monitor
    sign = -1 if monitor == "cross_entropy" else 1
    done: dict[str, Any] = read_json(file) if file.is_file() else {}

    def best() -> str | None:
        scores = {depth: sign * done[depth]["validation"][monitor] for depth in done}
        return max(scores, key=scores.__getitem__, default=None)

    for depth in prepared.stage.transfer.search:
        own = checkpoints / depth
        if depth not in done:
            log.info("depth %s-fc8", depth)
            stage = at_depth(prepared, depth)
            _, _, fitted = train(
                stage, config, checkpoints=own, logs=logs, run=run, suffix=f"-{depth}"
            )
            done[depth] = {**asdict(fitted), "best": ""}
            if best() == depth:
                with atomic_path(checkpoints / "best.ckpt") as part:
                    shutil.copyfile(fitted.best, part)
            write_json(file, done)
        shutil.rmtree(own, ignore_errors=True)
    chosen = best()
    assert chosen is not None
    record = {
        "monitor": monitor,
        "validation": {depth: done[depth]["validation"][monitor] for depth in done},
        "chosen": chosen,
    }
    found = done[chosen] | {
        "best": checkpoints / "best.ckpt",
        "transfer": TransferRecord(**done[chosen]["transfer"]),
        "losses": Losses(**done[chosen]["losses"]),
    }
    log.info("best depth on validation data: %s-fc8", chosen)
    return at_depth(prepared, chosen), Fitted(**found), record
