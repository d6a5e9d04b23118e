"""Speed and memory of training and test, side by side with references: python -m benchmarks

Everything takes minutes on two cores; `--network paper --data patches --rounds 3` is a part of it.
"""

from __future__ import annotations

import argparse

from benchmarks import lrn, training
from benchmarks.candidates import SIZES
from benchmarks.sets import KINDS


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--network", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--data", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=128, help="images a round")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", default="32-true")
    asked = parser.parse_args()
    lrn.measure(asked.rounds)
    training.measure(
        asked.network,
        asked.data,
        rounds=asked.rounds,
        images=asked.images,
        batch=asked.batch,
        precision=asked.precision,
    )


if __name__ == "__main__":
    main()
