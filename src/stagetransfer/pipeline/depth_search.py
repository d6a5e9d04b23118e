"""Searching the tuning depth: each is trained, the best on validation data is tested."""

from dataclasses import replace
from typing import Any

from stagetransfer.models import build_backbone
from stagetransfer.pipeline.search import Search
from stagetransfer.pipeline.stage import PreparedStage
from stagetransfer.training import Fitted, searched_blocks


def at_depth(prepared: PreparedStage, depth: str) -> PreparedStage:
    """Return the same stage, tuned from one block on."""
    assert prepared.stage.transfer is not None
    transfer = replace(prepared.stage.transfer, tune_from=depth, search=[])
    return replace(prepared, stage=replace(prepared.stage, transfer=transfer))


def search_depth(search: Search) -> tuple[PreparedStage, Fitted, dict[str, Any]]:
    """Train the stage at each depth of its `transfer.search`; choose one on validation data.

    Each training equals that of a run with this one `transfer.tune_from`.

    Returns:
        The stage at the best depth, its training, and the record of the search.
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
