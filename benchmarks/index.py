"""Start-up and memory on a large tree with one folder per class: python -m benchmarks.index

Writes a tree of tiny images; `--classes 1000 --images 1280` is ImageNet's size, and takes minutes
and 1.28 million inodes. Then builds its data module in new processes, with an empty cache and with
the index. Then decodes one epoch in worker processes and records their memory.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.rounds import in_new_process, resident
from benchmarks.tables import show
from benchmarks.timing import paired_ratio, spread
from stagetransfer.data import DomainDataModule, StageSettings

MIB = 2**20


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--images", type=int, default=100, help="images per class")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="parent of the tree; default: temporary")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        root = Path(name) / "tree"
        os.environ["XDG_CACHE_HOME"] = str(Path(name) / "cache")
        _write(root, options.classes, options.images)
        title = f"{options.classes} folders of {options.images} images"
        _starts(root, title, options.rounds)
        _epoch(root, title, options.workers)


def _write(root: Path, classes: int, images: int) -> None:
    for label in range(classes):
        folder = root / f"n{label:08d}"
        folder.mkdir(parents=True)
        first = folder / f"n{label:08d}_0.png"
        Image.fromarray(np.full((8, 8), label % 256, dtype=np.uint8)).save(first)
        content = first.read_bytes()
        for number in range(1, images):
            (folder / f"n{label:08d}_{number}.png").write_bytes(content)
    time.sleep(2.1)  # a tree that changed in the last two seconds is not indexed


def _starts(root: Path, title: str, rounds: int) -> None:
    found: dict[str, list[tuple[float, float]]] = {"without": [], "with the index": []}
    for _ in range(rounds):
        for file in Path(os.environ["XDG_CACHE_HOME"]).rglob("*.npz"):
            file.unlink()
        for values in found.values():  # the first writes the index that the second reads
            values.append(in_new_process(_start, root))
    rows = []
    for name, values in found.items():
        seconds, memory = zip(*values, strict=True)
        share = paired_ratio(seconds, [first for first, _ in found["without"]])
        rows.append((name, spread(seconds), f"{share:.3f}", f"{max(memory):.0f}"))
    show(f"Start-up, {title}", ("index", "seconds", "of without", "added MiB"), rows)


def _epoch(root: Path, title: str, workers: int) -> None:
    points = in_new_process(_watched, root, workers)
    rows = [(f"{share:.0%}", f"{memory / MIB:.0f}") for share, memory in points]
    show(f"One epoch, {title}, {workers} workers", ("of the epoch", "MiB of all processes"), rows)


def _module(root: Path, workers: int = 0) -> DomainDataModule:
    stage = StageSettings("benchmark", is_target=False, input_size=67, batch_size=256)
    return DomainDataModule(
        stage,
        layout="folder",
        root=root,
        check_images=False,
        workers=workers,
        memory_limit_gib=0.0,
    ).read()


def _start(root: Path) -> tuple[float, float]:
    before, start = resident(os.getpid()), time.perf_counter()
    module = _module(root)
    seconds = time.perf_counter() - start
    assert module.count("train") > 0
    return seconds, (resident(os.getpid()) - before) / MIB


def _watched(root: Path, workers: int) -> list[tuple[float, int]]:
    module = _module(root, workers)
    module.setup("fit")
    loader = module.train_dataloader()
    marks = {round(len(loader) * tenth / 10) for tenth in range(1, 11)}
    return [
        (number / len(loader), resident(os.getpid()))
        for number, _ in enumerate(loader, 1)
        if number in marks
    ]


if __name__ == "__main__":
    main()
