"""The finished runs that are compared, and their common test set as each network receives it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.data import DomainDataModule
from stagetransfer.data.subset import subset_by_image
from stagetransfer.errors import UserError
from stagetransfer.layouts.samples import Samples
from stagetransfer.pipeline.restore import RestoredRun, restore_runs
from stagetransfer.runs.comparability import check_comparable, check_unique
from stagetransfer.runs.reader import read_runs
from stagetransfer.runs.run import Run
from stagetransfer.runs.verdict import not_learned


@dataclass(frozen=True)
class ComparedRuns:
    """Finished runs, ordered by condition and seed, on one test set of n images with C classes."""

    runs: tuple[RestoredRun, ...]
    _data: dict[str, DomainDataModule] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The C class names."""
        return tuple(self.runs[0].record["classes"])

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) positions in `classes`."""
        return self._test_samples.labels

    @cached_property
    def groups(self) -> NDArray[np.str_] | None:
        """(n,) patients, or None where they are unknown."""
        groups = self._test_samples.groups
        return None if groups is None else np.array(groups)

    @cached_property
    def _test_samples(self) -> Samples:
        data = self.data(self.runs[0])
        return data.samples.take(data.rows["test"])

    @cached_property
    def failures(self) -> dict[str, str]:
        """For conditions with runs that did not learn: "did not learn in 1 of 3 runs (...)"."""
        results = {
            name: not_learned(read_runs([run.folder for run in runs])[0])
            for name, runs in self.conditions.items()
        }
        return {name: text for name, text in results.items() if text}

    @cached_property
    def conditions(self) -> dict[str, list[RestoredRun]]:
        """The runs of each condition, ordered by seed."""
        by_condition = groupby(self.runs, attrgetter("condition"))
        return {name: list(runs) for name, runs in by_condition}

    def data(self, run: RestoredRun) -> DomainDataModule:
        """Return the run's data, which runs with the same input settings share."""
        model = run.config.model
        key = repr((run.config.stages[-1].domain, model.input_size, model.mean, model.std))
        if key not in self._data:
            self._data[key] = run.data
        return self._data[key]

    def inputs(self, run: RestoredRun, positions: NDArray[np.int64]) -> Tensor:
        """Return test images (N, 3, S, S), normalised for the run's network."""
        return self.data(run).inputs("test", positions.tolist())

    def draw_rois(self, per_class: int, seed: int) -> NDArray[np.int64]:
        """Return positions of `per_class` random test images of each class, or of all it has.

        The draw depends on `seed` alone, not on the networks: no image is picked for its map.
        """
        drawn = [
            np.random.default_rng((seed, label)).permutation(np.flatnonzero(self.labels == label))
            for label in range(len(self.classes))
        ]
        return np.concatenate([positions[:per_class] for positions in drawn])

    def draw_images(self, count: int) -> NDArray[np.int64]:
        """Return positions of about `count` test images, or of all: of each class its share, but
        at least one."""
        if count >= len(self.labels):
            return np.arange(len(self.labels))
        share = count / len(self.labels)
        return subset_by_image(self.labels, share, 0, self.classes, keep_classes=True)


def open_compared_runs(
    paths: Sequence[Path], ratio: float | None, seeds: Sequence[int]
) -> ComparedRuns:
    """Open the finished runs under `paths` of one ratio, by default the largest.

    Only runs with one of the `seeds` are kept; all if it is empty. UserError if there is none, two
    have the same condition and seed, they differ in the blocks, or they could not be in one report.
    """
    runs = restore_runs(paths)
    ratio = max(run.record["ratio"] for run in runs) if ratio is None else ratio
    runs = [
        run for run in runs if run.record["ratio"] == ratio and (not seeds or run.seed in seeds)
    ]
    if not runs:
        raise UserError(
            f"ratio {ratio:g}, seeds {list(seeds) or 'any'}: no finished run has them. "
            "Give another --ratio or --seed."
        )
    finished, _ = read_runs([run.folder for run in runs])
    seen: dict[tuple[str, int, str], Run] = {}
    for run in finished:
        place = run.condition, run.seed, str(run.splits)
        check_unique(seen.setdefault(place, run), run, "condition, ratio and seed")
        if {*run.blocks} != {*finished[0].blocks}:
            raise UserError(
                f"{finished[0].name} and {run.name}: they differ in the blocks of the network, so "
                "they cannot be compared. Give runs with the same blocks."
            )
    check_comparable(finished)
    return ComparedRuns(tuple(runs))
