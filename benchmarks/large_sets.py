"""What a node needs for a source of ImageNet's size: python -m benchmarks.large_sets

Decoding is measured, in processor seconds of one core. The rest is computed, by the formulas of
docs/large-sets.md, from three assumptions: a GPU's peak in TFLOP/s, the share of it that is
reached, and the price of an hour. Others may be given in their place, as in 989 0.2 3.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from torchvision.models import get_model_weights

from benchmarks.sets import KINDS, make
from benchmarks.tables import show
from benchmarks.timing import spread
from stagetransfer.data.images import decode
from stagetransfer.layouts import read
from stagetransfer.layouts.write_shards import write_packed

SIDE, IMAGES, EPOCHS, KILOBYTES = 256, 1_281_167, 90, 115.5  # ILSVRC 2012: 148 GB
ROUNDS, SCALING = 5, {1: 1.0, 8: 0.9, 64: 0.9}


def decoding() -> float:
    """Print the images that one core decodes per second, and return the median from shards."""
    torch.set_num_threads(1)
    rates: dict[str, list[float]] = {"folder": [], "litdata": []}
    with tempfile.TemporaryDirectory() as name:
        root, out = Path(name) / "photos", Path(name) / "packed"
        make(KINDS["photos"], root, 60, 4)
        kilobytes = write_packed(read("folder", root), root, out)["bytes"] / 68e3
        for _ in range(ROUNDS):
            for layout, folder in (("folder", root), ("litdata", out)):
                files, began = read(layout, folder).images, time.process_time()
                for file in files:
                    decode(file, SIDE, "crop", "RGB")
                rates[layout].append(len(files) / (time.process_time() - began))
    rows = [[name, spread(of, 0)] for name, of in rates.items()]
    title = f"Images/s of one core, 500x375 JPEG of {kilobytes:.0f} kB to {SIDE}, {ROUNDS} rounds"
    show(title, ["layout", "images/s"], rows)
    return sorted(rates["litdata"])[ROUNDS // 2]


def main() -> None:
    """Print the tables."""
    peak, share, price = (float(word) for word in (sys.argv[1:] or ["312", "0.2", "2.5"]))
    core, rows = decoding(), []
    for name in ("alexnet", "resnet50", "wide_resnet50_2"):
        work = 3 * 2 * get_model_weights(name)["IMAGENET1K_V1"].meta["_ops"]  # GFLOP per image
        rate = peak * 1e3 * share / work
        needs = [
            f"{work:.1f}",
            f"{rate:,.0f}",
            f"{rate / core:.0f}",
            f"{rate * KILOBYTES / 1e3:,.0f}",
        ]
        hours = {n: IMAGES * EPOCHS / (3600 * rate * n * kept) for n, kept in SCALING.items()}
        rows.append([name, *needs, *(f"{h:.3g} h, {h * n * price:,.0f}" for n, h in hours.items())])
    columns = ["network", "GFLOP", "images/s", "cores", "MB/s", *(f"{n} GPU" for n in SCALING)]
    show(f"By formula: {peak:g} TFLOP/s x {share:g}, {price:g} per hour", columns, rows)


if __name__ == "__main__":
    main()
