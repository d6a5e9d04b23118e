"""Which blocks of a network a transfer makes new, freezes and trains, and how fast."""

import re

from stagetransfer.config.schema import Transfer
from stagetransfer.errors import UserError
from stagetransfer.models import Backbone
from stagetransfer.training.parameter_groups import rates_by_block

HEAD = "head"
"""Names the last block of every network."""

ALL = "all"
"""As `transfer.search`: every block up to the first re-initialised one, from the head on."""


def new_blocks(transfer: Transfer, network: Backbone) -> tuple[str, ...]:
    """Return the blocks that are re-initialised; by default the network's own classifier."""
    if transfer.reinitialise is None:
        return network.classifier
    names = [_named(one, network) for one in transfer.reinitialise]
    return tuple(one for one in network.blocks if one in names)


def frozen_blocks(transfer: Transfer, network: Backbone) -> tuple[str, ...]:
    """Return the blocks that are not trained, from the input on."""
    if transfer.mode == "frozen":
        new = new_blocks(transfer, network)
        return tuple(one for one in network.blocks if one not in new)
    return network.before(_named(transfer.tune_from, network)) if transfer.tune_from else ()


def searched_blocks(transfer: Transfer, network: Backbone) -> list[str]:
    """Return the values of `tune_from` that a search tries."""
    if transfer.search == ALL:
        new = new_blocks(transfer, network)
        first = network.blocks.index(new[0]) if new else len(network.blocks) - 1
        return list(reversed(network.blocks[: first + 1]))
    return [_named(one, network) for one in transfer.search]


def _named(block: str, network: Backbone) -> str:
    return network.blocks[-1] if block == HEAD else block


def block_rates(transfer: Transfer | None, network: Backbone) -> dict[str, float]:
    """Return the factor of each block's learning rate; UserError as in `rates_by_block`."""
    if transfer is not None and transfer.rate_decay is not None:
        return {block: transfer.rate_decay**i for i, block in enumerate(reversed(network.blocks))}
    given = transfer.rates if transfer is not None else []
    rates = [[re.escape(_named(p, network)) if p == HEAD else p, f] for p, f in given]
    return rates_by_block(network.blocks, rates or [[".*", 1.0]])


def check_transfer(transfer: Transfer, network: Backbone) -> None:
    """Raise UserError if the settings name blocks that the network does not have or freeze new."""
    new = new_blocks(transfer, network)
    depths = searched_blocks(transfer, network)
    if transfer.tune_from is not None:
        depths = [_named(transfer.tune_from, network)]
    key = "transfer.search" if transfer.search else "transfer.tune_from"
    made = [_named(one, network) for one in transfer.reinitialise or ()]
    for place, names in (("transfer.reinitialise", made), (key, depths)):
        if unknown := [name for name in names if name not in network.blocks]:
            known = ", ".join(network.blocks)
            raise UserError(f"{place}={unknown[0]}: no such block. Use one of {known}.")
    for depth in depths:
        if frozen := [one for one in network.before(depth) if one in new]:
            raise UserError(
                f"{key}={depth} would freeze {', '.join(frozen)}, which transfer.reinitialise "
                "re-initialises. Shorten that list, or tune from an earlier block"
            )
    block_rates(transfer, network)
