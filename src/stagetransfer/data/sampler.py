"""The order of a training epoch, from its own seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor
from torch.utils.data import Sampler

from stagetransfer.seeding import derive


class EpochSampler(Sampler[int]):
    """A new random order each epoch that depends on (seed, epoch) alone.

    So a run that is killed and resumed sees the images in the order of an undisturbed one.
    With `balanced`, each draw takes every class equally often in the mean (TLtools): as many
    draws as there are images, with replacement.
    """

    def __init__(self, labels: Tensor, seed: int, *, balanced: bool = False) -> None:
        self.labels = labels
        self.seed = seed
        self.balanced = balanced
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(derive(self.seed, "order", self.epoch))
        if self.balanced:
            weights = 1.0 / torch.bincount(self.labels)[self.labels].double()
            order = torch.multinomial(weights, len(self), replacement=True, generator=generator)
        else:
            order = torch.randperm(len(self), generator=generator)
        return iter(order.tolist())


class ShareSampler(Sampler[int]):
    """One process's share of another sampler's draws: every world-th, from `rank` on.

    With `even`, all shares have the same length, as training needs; the up to world - 1 draws at
    the end of an epoch that this leaves out are other ones each epoch. Without, no draw is left
    out and none stands in two shares.
    """

    def __init__(self, sampler: Sampler[int], rank: int, world: int, *, even: bool) -> None:
        self.sampler = sampler
        self.rank = rank
        self.world = world
        self.even = even

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        if isinstance(self.sampler, EpochSampler):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        draws = len(self.sampler)  # type: ignore[arg-type]
        return draws // self.world if self.even else -((self.rank - draws) // self.world)

    def __iter__(self) -> Iterator[int]:
        return islice(islice(self.sampler, self.rank, None, self.world), len(self))
