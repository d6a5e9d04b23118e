"""A stage's training and test against a reference loop and against the network alone.

Four candidates take turns, each in a process of its own: this framework; torchvision's reference
loop (float32, PIL, DataLoader workers); the same in a plain LightningModule; and the ceiling, our
network on a batch that lies in memory. A round is one epoch of a generated set, from the first
batch asked for to the last step done.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import candidates
from benchmarks.candidates import Case
from benchmarks.rounds import Candidate, Measured, speed, take_turns
from benchmarks.sets import KINDS, make
from benchmarks.tables import show

TRAINING: Mapping[str, Candidate] = {
    "StageTransfer": candidates.ours,
    "plain Lightning": candidates.plain_lightning,
    "reference loop": candidates.reference,
    "ceiling": candidates.ceiling,
}
TEST: Mapping[str, Candidate] = {
    "StageTransfer, test": candidates.our_test,
    "reference loop, test": candidates.reference_test,
    "ceiling, forward": candidates.test_ceiling,
}
_TESTED = 3  # times the images: a forward pass takes about a third of a step
COLUMNS = ("candidate", "images/s", "of the reference", "of the ceiling", "peak MiB", "ready in s")


def measure(
    networks: Sequence[str],
    data: Sequence[str],
    *,
    rounds: int,
    images: int,
    batch: int,
    precision: str,
) -> None:
    """Prints a table for each network and kind of image as soon as it is measured."""
    images = max(1, images // batch) * batch
    with tempfile.TemporaryDirectory() as folder:
        for name in data:
            root = Path(folder) / name
            make(KINDS[name], root, images, _TESTED * images)
            for network in networks:
                case = Case(network, name, root, batch, images, precision)
                tested = replace(case, images=_TESTED * images)
                rows = [*_rows(TRAINING, case, rounds), *_rows(TEST, tested, rounds)]
                title = (
                    f"{network}, {KINDS[name].title}, input {case.size}, batch {batch}, "
                    f"{precision}, {rounds} rounds of {images} images ({tested.images} in a test)"
                )
                show(title, COLUMNS, rows)


def _rows(parts: Mapping[str, Candidate], case: Case, rounds: int) -> Iterator[Sequence[str]]:
    measured = take_turns({name: (run, case) for name, run in parts.items()}, rounds)
    against = [next(v for k, v in measured.items() if w in k) for w in ("reference", "ceiling")]
    for name, candidate in measured.items():
        ratios = [f"{_ratio(candidate, other):.2f}" for other in against]
        memory = f"{candidate.memory / 2**20:.0f}"
        speeds = speed(candidate.speeds(case.images))
        yield name, speeds, *ratios, memory, f"{candidate.ready:.1f}"


def _ratio(one: Measured, other: Measured) -> float:
    """Of the speeds, round by round: what disturbs one round disturbs both."""
    pairs = zip(one.seconds, other.seconds, strict=True)
    return statistics.median(theirs / own for own, theirs in pairs)
