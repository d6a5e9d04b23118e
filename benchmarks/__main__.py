"""Start-up, and speed and memory of training and test beside references: python -m benchmarks

The whole takes many minutes on two cores; `--network paper --data patches --rounds 3` runs a part.
"""

from __future__ import annotations

import argparse

from benchmarks import lrn, startup, training
from benchmarks.candidates import SIZES
from benchmarks.sets import KINDS


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--network", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--data", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=128, help="images per round")
    parser.add_argument("--batch", type=int, default=64, help="images per batch")
    parser.add_argument("--precision", default="32-true")
    options = vars(parser.parse_args())
    startup.measure(max(5, options["rounds"]))
    lrn.measure(options["rounds"])
    training.measure(options.pop("network"), options.pop("data"), **options)


if __name__ == "__main__":
    main()
