"""The finished runs that are compared, and their common test set as each network receives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.data import DomainDataModule
from stagetransfer.data.samples import Samples
from stagetransfer.data.subset import subset_by_image
from stagetransfer.errors import UserError
from stagetransfer.pipeline.restore import RestoredRun, restore_runs


@dataclass(frozen=True)
class ComparedRuns:
    """Finished runs on one test set of n images with C classes.

    Attributes:
        runs: ordered by condition and seed.
    """

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
    def conditions(self) -> dict[str, list[RestoredRun]]:
        """The runs of each condition, ordered by seed."""
        result: dict[str, list[RestoredRun]] = {}
        for run in self.runs:
            result.setdefault(run.condition, []).append(run)
        return result

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

        The draw depends on `seed` alone, not on the networks: nobody chooses the best examples.
        """
        drawn = [
            np.random.default_rng((seed, label)).permutation(np.flatnonzero(self.labels == label))
            for label in range(len(self.classes))
        ]
        return np.concatenate([positions[:per_class] for positions in drawn])

    def draw_images(self, count: int) -> NDArray[np.int64]:
        """Return positions of about `count` test images, stratified by class, or of all.

        Each class keeps its share, but has at least one image.
        """
        if count >= len(self.labels):
            return np.arange(len(self.labels))
        return subset_by_image(self.labels, count / len(self.labels), 0, keep_classes=True)


def open_compared_runs(
    paths: Sequence[Path], ratio: float | None, seeds: Sequence[int]
) -> ComparedRuns:
    """Open the finished runs of one ratio under `paths`.

    Args:
        ratio: default: the largest among the runs.
        seeds: the seeds to keep; all if empty.

    Raises:
        UserError: there is no such run, two runs have the same condition and seed, or the runs have
            different test sets.
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
    seen: dict[tuple[str, int], RestoredRun] = {}
    for run in runs:
        other = seen.setdefault((run.condition, run.seed), run)
        if other is not run and other.record.get("splits") == run.record.get("splits"):
            raise UserError(
                f"{other.folder.name} and {run.folder.name}: both are {run.name}, with different "
                "settings. Give the folders of the runs that belong together."
            )
        _check_same_test_set(runs[0], run)
    return ComparedRuns(tuple(runs))


def _check_same_test_set(first: RestoredRun, run: RestoredRun) -> None:
    a, b = (
        {
            "fingerprint of the target": one.record["stages"][-1]["fingerprint"],
            "classes": one.record["classes"],
            "split file or fold": one.record.get("splits"),
            "number of test images": one.record["num_test"],
        }
        for one in (first, run)
    )
    for name in a:
        if a[name] != b[name]:
            raise UserError(
                f"{first.folder.name} and {run.folder.name}: they differ in the {name}, so they "
                "cannot be compared. Give runs with the same test set."
            )
