"""Start-up, and speed and memory of training and test beside references: python -m benchmarks

The whole takes many minutes on two cores; `--network paper --data patches --rounds 3` runs a part.
With `--device cuda` it measures a GPU in a few minutes (see `benchmarks.device`), and with `--out`
all tables are also written to a file; `--device cpu` tries the same without a GPU.
"""

from __future__ import annotations

import argparse
import io
import sys
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TextIO

from benchmarks import device, lrn, startup, training
from benchmarks.networks import ALEXNETS
from benchmarks.sets import KINDS

ON_DEVICE = ["paper", "resnet50", "timm:tf_efficientnet_lite0"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--network", nargs="+", help="default: the variants of AlexNet, or three")
    parser.add_argument("--data", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=128, help="images per round")
    parser.add_argument("--batch", type=int, nargs="+", default=[64], help="images per batch")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--device", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, help="a folder for RESULTS.md")
    options = parser.parse_args()
    with ExitStack() as stack:
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((options.out / "RESULTS.md").open("w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(_Both(sys.stdout, file)))
        if options.device:
            names = options.network or ON_DEVICE
            device.measure(options.device, names, options.batch, rounds=options.rounds)
        else:
            startup.measure(max(5, options.rounds))
            lrn.measure(options.rounds)
        if options.device != "cpu":
            training.measure(
                options.network or list(ON_DEVICE if options.device else ALEXNETS),
                ["patches"] if options.device else options.data,
                rounds=options.rounds, images=options.images, batch=options.batch[-1],
                precision=options.precision,
            )  # fmt: skip


class _Both(io.TextIOBase):
    """Writes to the terminal and to a file."""

    def __init__(self, *files: TextIO) -> None:
        self.files = files

    def write(self, text: str) -> int:
        for file in self.files:
            file.write(text)
            file.flush()
        return len(text)


if __name__ == "__main__":
    main()
