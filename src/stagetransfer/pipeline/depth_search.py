"""The best tuning depth, chosen on validation data: each is trained, one is tested."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from stagetransfer.config.schema import RunConfig
from stagetransfer.files import atomic_path, read_json, write_json
from stagetransfer.pipeline.stage import Link, train
from stagetransfer.training import Fitted, TransferRecord

log = logging.getLogger(__name__)


def at_depth(link: Link, depth: str) -> Link:
    """The same link, tuned from one layer on."""
    assert link.stage.transfer is not None
    transfer = replace(link.stage.transfer, tune_from=depth, search=[])
    return replace(link, stage=replace(link.stage, transfer=transfer))


def search(
    link: Link, config: RunConfig, folder: Path, tensorboard: Path
) -> tuple[Link, Fitted, dict[str, Any]]:
    """Trains the link at each depth of its `transfer.search`; the best on validation data.

    Each training is that of a run with this one `transfer.tune_from`. The first of equals wins.
    A killed search goes on where it stopped: search.json tells which depths are done.

    Args:
        folder: gets best.ckpt, that of the best depth.

    Returns:
        The link at the best depth, its training, and what is recorded of the search.
    """
    assert link.stage.transfer is not None
    monitor, file = link.stage.recipe.monitor, folder / "search.json"
    sign = -1 if monitor == "cross_entropy" else 1
    done: dict[str, Any] = read_json(file) if file.is_file() else {}

    def best() -> str | None:
        scores = {depth: sign * done[depth]["validation"][monitor] for depth in done}
        return max(scores, key=scores.__getitem__, default=None)

    for depth in link.stage.transfer.search:
        own = folder / depth
        if depth not in done:
            log.info("depth %s-fc8", depth)
            _, _, fitted = train(at_depth(link, depth), config, own, tensorboard, f"-{depth}")
            done[depth] = {**asdict(fitted), "best": ""}
            if best() == depth:
                with atomic_path(folder / "best.ckpt") as part:
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
        "best": folder / "best.ckpt",
        "transfer": TransferRecord(**done[chosen]["transfer"]),
    }
    log.info("best depth on validation data: %s-fc8", chosen)
    return at_depth(link, chosen), Fitted(**found), record
