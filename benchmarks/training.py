"""A stage's training and test beside a reference loop and beside the network alone.

The candidates take turns, each in its own process: this framework; torchvision's reference loop
(float32, PIL, DataLoader workers); the same in a plain LightningModule; and the ceiling, which is
our network on a batch that is already in memory. With photos, which exceed the memory limit, this
framework runs a second time, with the disk cache. A round is one epoch of a generated set, from
the request for the first batch to the end of the last step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import candidates
from benchmarks.candidates import Case
from benchmarks.rounds import Candidate, take_turns
from benchmarks.sets import KINDS, make
from benchmarks.tables import show
from benchmarks.timing import paired_ratio, spread

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
_TEST_FACTOR = 3  # test images per training image: a forward pass takes about a third of a step
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
    """Print one table per network and kind of image, each as soon as it is measured."""
    images = max(1, images // batch) * batch
    with tempfile.TemporaryDirectory() as folder:
        for name in data:
            root = Path(folder) / name
            make(KINDS[name], root, images, _TEST_FACTOR * images)
            for network in networks:
                case = Case(network, name, root, batch, images, precision)
                test_case = replace(case, images=_TEST_FACTOR * images)
                rows = [*_rows(TRAINING, case, rounds), *_rows(TEST, test_case, rounds)]
                title = (
                    f"{network}, {KINDS[name].title}, input {case.size}, batch {batch}, {precision}"
                    f", {rounds} rounds of {images} images ({test_case.images} in a test)"
                )
                show(title, COLUMNS, rows)


def _rows(parts: Mapping[str, Candidate], case: Case, rounds: int) -> Iterator[Sequence[str]]:
    turns = {name: (run, case) for name, run in parts.items()}
    if not KINDS[case.data].held:  # the disk cache is filled before the first round
        name, run = next(iter(parts.items()))
        turns[f"{name}, disk cache"] = (run, replace(case, cached=True))
    measured = take_turns(turns, rounds)
    others = [next(v for k, v in measured.items() if w in k) for w in ("reference", "ceiling")]
    for name, candidate in measured.items():
        # A ratio of speeds is the inverse ratio of seconds.
        ratios = [f"{paired_ratio(other.seconds, candidate.seconds):.2f}" for other in others]
        memory = f"{candidate.memory / 2**20:.0f}"
        speeds = spread(candidate.speeds(case.images), 1)
        yield name, speeds, *ratios, memory, f"{candidate.ready:.1f}"
