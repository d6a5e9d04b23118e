"""DataLoaders over sets that return whole batches, and the samplers that order a training epoch."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from stagetransfer.errors import UserError
from stagetransfer.layouts.shards import MIXED
from stagetransfer.seeding import derive


class BatchSet(Protocol):
    """A data set that returns batches; `held` is its content if it is in memory, else None."""

    held: Tensor | None

    def __len__(self) -> int: ...
    def __getitems__(self, indices: Sequence[int]) -> Any: ...


class EpochSampler(Sampler[int]):
    """A new random order for each epoch, which depends on (seed, epoch) alone.

    A run that is killed and resumed therefore sees the images in the order of an undisturbed run.
    With `balanced`, every class is drawn equally often on average, as in TLtools: as many draws as
    there are images, with replacement. With `shards`, the (N,) number of each image's shard, the
    draws of `MIXED` shards at a time follow each other: the shards are chosen at random, and their
    images are in random order, so that an epoch reads each shard within one window.
    """

    def __init__(
        self, labels: Tensor, seed: int, *, balanced: bool = False, shards: Tensor | None = None
    ) -> None:
        self.labels, self.seed, self.balanced, self.shards = labels, seed, balanced, shards
        self.epoch = 0
        self.drawn = (0, 0)  # an epoch, and how many of its draws were used before a resumption

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning."""
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
        if self.shards is not None:
            place = torch.randperm(int(self.shards.max()) + 1, generator=generator)
            order = order[(place[self.shards[order]] // MIXED).argsort(stable=True)]
        epoch, used = self.drawn
        return iter(order[used if epoch == self.epoch else 0 :].tolist())


class ProcessSampler(Sampler[int]):
    """One process's share of another sampler's draws: every world-th draw, from `rank` on.

    With `even`, all shares have the same length, as training needs: up to world - 1 draws at the
    end of an epoch are left out. Without it, every draw is in exactly one share.
    """

    def __init__(self, sampler: Sampler[int], rank: int, world: int, *, even: bool) -> None:
        self.sampler, self.rank, self.world, self.even = sampler, rank, world, even

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning."""
        if isinstance(self.sampler, EpochSampler):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        draws = len(self.sampler)  # type: ignore[arg-type]
        return draws // self.world if self.even else -((self.rank - draws) // self.world)

    def __iter__(self) -> Iterator[int]:
        return islice(islice(self.sampler, self.rank, None, self.world), len(self))


class LazyLoader(DataLoader[Any]):
    """A DataLoader that asks its sampler for the order when the first batch is needed.

    Lightning makes the first iterator before the callbacks have restored the state of a training.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


class _Carrying:
    """A set that returns bad input as a batch, for `LazyLoader` to raise.

    An error that is raised in a worker process arrives with the worker's traceback as its message.
    """

    def __init__(self, data: BatchSet) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitems__(self, indices: Sequence[int]) -> Any:
        try:
            return self.data.__getitems__(indices)
        except UserError as error:
            return error


def build_loader(
    data: BatchSet,
    batch_size: int,
    workers: int,
    trainer: pl.Trainer | None,
    sampler: EpochSampler | None = None,
) -> DataLoader[Any]:
    """Return a DataLoader; data held in memory are read without worker processes.

    Each of the trainer's processes gets its share. Without a sampler, the order is the data's.
    Nothing is drawn from the global generators, so the number of workers decides no result.
    """
    workers = 0 if data.held is not None else workers
    order: Sampler[int] = sampler or SequentialSampler(data)
    if trainer is not None and trainer.world_size > 1:
        rank, world = trainer.global_rank, trainer.world_size
        order = ProcessSampler(order, rank, world, even=sampler is not None)
    on_device = data.held is not None and data.held.is_cuda
    return LazyLoader(
        _Carrying(data) if workers else data,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available() and not on_device,
        collate_fn=_unchanged,
        # A loader draws a seed for its workers, by default from the global generator: once, or in
        # each epoch without persistent workers.
        generator=torch.Generator(),
    )


def _unchanged(batch: Any) -> Any:  # not a lambda: worker processes need to pickle it
    return batch
