"""The runs that are looked at together, and their one test set as each run's network sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.data import DomainDataModule
from stagetransfer.data.subset import subset_by_image
from stagetransfer.errors import UserError
from stagetransfer.explain import Seed, deconvnet, desalinet, salinet
from stagetransfer.pipeline.restore import FinishedRun, open_runs

METHODS = {"desalinet": desalinet, "deconvnet": deconvnet, "salinet": salinet}

_BATCH = 32


@dataclass(frozen=True)
class View:
    """What is shown of a network: a method of METHODS, a layer, and what is taken back from it."""

    method: str = "desalinet"
    layer: str = "pool5"
    seed: Seed = "features"

    def pictures(self, network: Any, images: Tensor) -> Tensor:
        """(N, 3, S, S) of images (N, 3, S, S), in batches."""
        method = METHODS[self.method]
        parts = [
            method(network, batch, self.layer, self.seed) for batch in torch.split(images, _BATCH)
        ]
        return torch.cat(parts)


@dataclass(frozen=True)
class Study:
    """Finished runs on one test set with n images.

    classes: C names. labels: (n,) in [0, C). groups: (n,) or None where none are known.
    """

    runs: tuple[FinishedRun, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_] | None
    _data: dict[str, DomainDataModule] = field(default_factory=dict, repr=False)

    @property
    def conditions(self) -> dict[str, list[FinishedRun]]:
        """The runs of each condition, by seed."""
        result: dict[str, list[FinishedRun]] = {}
        for run in self.runs:
            result.setdefault(run.condition, []).append(run)
        return result

    def data(self, run: FinishedRun) -> DomainDataModule:
        """The run's data, read once for all runs that see it alike."""
        model = run.config.model
        key = repr((run.config.stages[-1].domain, model.input_size, model.mean, model.std))
        if key not in self._data:
            self._data[key] = run.data
        return self._data[key]

    def inputs(self, run: FinishedRun, positions: NDArray[np.int64]) -> Tensor:
        """Test images (N, 3, S, S) as the run's network takes them."""
        return self.data(run).inputs("test", positions.tolist())

    def rois(self, per_class: int, pick: int) -> NDArray[np.int64]:
        """`per_class` test images of each class (fewer where a class has fewer), drawn by `pick`
        and by nothing else: not the best, not the nicest."""
        chosen = [
            np.random.default_rng((pick, label)).permutation(np.flatnonzero(self.labels == label))
            for label in range(len(self.classes))
        ]
        return np.concatenate([rows[:per_class] for rows in chosen])

    def sample(self, count: int) -> NDArray[np.int64]:
        """About `count` test images, every class in its share and at least once; or all."""
        if count >= len(self.labels):
            return np.arange(len(self.labels))
        return subset_by_image(self.labels, count / len(self.labels), 0, keep_classes=True)


def open_study(paths: Sequence[Path], ratio: float | None, seeds: Sequence[int]) -> Study:
    """The runs under `paths` at one ratio (default: the greatest there) and these seeds (default:
    all).

    Raises:
        UserError: there are none, two of one condition and seed, or they differ in their test set.
    """
    runs = open_runs(paths)
    ratio = max(run.record["ratio"] for run in runs) if ratio is None else ratio
    runs = [
        run for run in runs if run.record["ratio"] == ratio and (not seeds or run.seed in seeds)
    ]
    if not runs:
        raise UserError(f"no finished run with ratio {ratio:g} and seeds {list(seeds) or 'any'}")
    seen: dict[tuple[str, int], FinishedRun] = {}
    for run in runs:
        other = seen.setdefault((run.condition, run.seed), run)
        if other is not run and other.record.get("splits") == run.record.get("splits"):
            raise UserError(
                f"{other.folder.name} and {run.folder.name} are both {run.name}, with other "
                f"settings; give the folders of the runs that belong together"
            )
        _check_same_test(runs[0], run)
    study = Study(tuple(runs), tuple(runs[0].record["classes"]), np.zeros(0, np.int64), None)
    data = study.data(runs[0])
    samples = data.samples.take(data.rows["test"])
    groups = None if samples.groups is None else np.array(samples.groups)
    return Study(study.runs, study.classes, samples.labels, groups, study._data)


def _check_same_test(first: FinishedRun, run: FinishedRun) -> None:
    ours, other = first.record["stages"][-1], run.record["stages"][-1]
    for what, a, b in (
        ("fingerprint of the target", ours["fingerprint"], other["fingerprint"]),
        ("classes", first.record["classes"], run.record["classes"]),
        ("split file or fold", first.record.get("splits"), run.record.get("splits")),
        ("number of test images", first.record["num_test"], run.record["num_test"]),
    ):
        if a != b:
            raise UserError(
                f"{first.folder.name} and {run.folder.name} can't be compared: another {what}"
            )
