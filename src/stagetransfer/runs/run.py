"""The two kinds of run on disk: `Run`, which has a result, and `UnfinishedRun`, which has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from stagetransfer.names import METRICS
from stagetransfer.runs.predictions import Predictions
from stagetransfer.statistics import classification_metrics

# What a training came to; metrics.json holds these words.
LEARNED, CONSTANT = "learned", "constant output"
AT_CHANCE, DIVERGED = "not above chance", "diverged"


class Replicate(NamedTuple):
    """What distinguishes the runs of a condition at one ratio: their seeds.

    The source seed is None where it plays no role: if it does not vary on its own in a study, and
    for runs from scratch.
    """

    seed: int
    source_seed: int | None = None

    def __str__(self) -> str:
        return str(self.seed) if self.source_seed is None else f"{self.seed}/{self.source_seed}"


@dataclass(frozen=True)
class Run(Predictions):
    """A finished run: its predictions on the test images, and its record."""

    folder: Path
    condition: str
    chain: tuple[str, ...]
    ratio: float
    seed: int
    source_seed: int | None
    num_train: int
    num_train_per_class: Mapping[str, int] | None
    stages: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str]
    config: Mapping[str, Any]  # config.yaml with flat keys, such as "recipe.epochs"
    splits: Mapping[str, Any] | None = None  # digest, fold and number of folds of the split file
    folds: tuple[Run, ...] = ()  # the runs that this one pools (`pool_folds`)
    search_rates: Mapping[str, Any] | None = None  # what a search of rate and epochs tried, chose
    blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # tensors, input first
    identical_images: Mapping[str, Any] | None = None  # `data.Copies.record`; None if unknown
    num_validation: int | None = None  # images in validation.csv; None if unknown
    verdict: str = LEARNED  # or how the target stage failed (`verdict.judge`)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.name

    @property
    def parts(self) -> tuple[Run, ...]:
        """The runs that were trained: those of the folds, or this run itself."""
        return self.folds or (self,)

    @property
    def learned(self) -> bool:
        """Whether the target stage learned anything; for pooled folds, whether all of them did."""
        return self.verdict == LEARNED

    @property
    def health(self) -> Mapping[str, Any]:
        """What the target stage recorded about its training; empty for earlier versions."""
        return self.stages[-1].get("health") or {}

    @property
    def replicate(self) -> Replicate:
        """The run's seeds; a run from scratch has no source seed."""
        return Replicate(self.seed, self.source_seed if len(self.chain) > 1 else None)

    @property
    def fold(self) -> int | None:
        """The fold that this run was tested on; None without folds, or if it pools them."""
        return None if self.splits is None or self.folds else self.splits["fold"]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the target domain's data."""
        return str(self.stages[-1]["fingerprint"])

    @property
    def place(self) -> tuple[str, float, int]:
        """The run's place in a sweep: condition, ratio and seed."""
        return self.condition, self.ratio, self.seed

    @property
    def metrics(self) -> dict[str, float | None]:
        """The metrics of all test images, as in `test` of metrics.json."""
        found = classification_metrics(self.labels, self.probabilities, self.classes)
        return {name: found[name] for name in METRICS}


def trained_runs(runs: Iterable[Run]) -> list[Run]:
    """Return the runs that were trained: those of the folds in place of each pooled run."""
    return [part for run in runs for part in run.parts]


@dataclass(frozen=True)
class UnfinishedRun:
    """A run without a result, or a pooled one that lacks folds.

    The place is None if config.yaml does not hold it. The cause is the first line of failure.txt,
    or None if the run did not fail.
    """

    folder: Path
    place: tuple[str, float, int] | None
    cause: str | None
    config: Mapping[str, Any]
    missing_folds: str | None = None

    @property
    def reason(self) -> str:
        """Why there is no result."""
        return self.missing_folds or (f"failed: {self.cause}" if self.cause else "unfinished")
