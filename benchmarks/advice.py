"""How long advice takes: python -m benchmarks.advice

Probes of 14 candidates at five ratios with three divisions, on cached features of 1,103 images of
seven classes and 60 patients, of AlexNet's seven blocks; and the features of one candidate against
the forward passes alone, at 224 pixels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.tables import show
from stagetransfer.advise import Candidate, advise
from stagetransfer.advise.block_features import BATCH, PROBABILITIES, Features, block_features
from stagetransfer.advise.candidates import RANDOM
from stagetransfer.advise.probe import divide
from stagetransfer.config.compose import compose_settings
from stagetransfer.config.schema import Model
from stagetransfer.data import DomainDataModule
from stagetransfer.models import build_backbone
from stagetransfer.pipeline.stage_data import stage_data
from stagetransfer.training.machine import keep_freed_memory

IMAGES, CLASSES, PATIENTS = 1103, 7, 60
CHANNELS = (96, 256, 384, 384, 256, 4096, 4096)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--candidates", type=int, default=14)
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    keep_freed_memory()  # as the command does
    show("probes", ("candidates", "seconds", "of the processor"), [_probes(options.candidates)])
    columns = ("network", "images", "forward passes alone, s", "with features, s", "ratio")
    show("features", columns, [_features("efficientnet_lite0", options.size)])


def _probes(count: int) -> list[str]:
    random = np.random.default_rng(0)
    labels = np.arange(IMAGES) % CLASSES
    groups = [f"p{i % PATIENTS}" for i in range(IMAGES)]
    network = build_backbone(Model(input_size=67), 10)
    names = [RANDOM, *(f"source {i}" for i in range(1, count))]
    candidates = [Candidate(name, 1, (network,)) for name in names]
    features: dict[str, list[Features]] = {}
    for strength, name in enumerate(names):
        found = {}
        for block, channels in zip(network.blocks[:-1], CHANNELS, strict=True):
            centres = 0.1 * strength / count * random.normal(size=(CLASSES, channels))
            noise = random.normal(size=(IMAGES, channels))
            found[block] = (noise + centres[labels]).astype(np.float32)
        found[PROBABILITIES] = random.dirichlet(np.ones(10), IMAGES).astype(np.float32)
        features[name] = [found]
    divisions = divide(labels, groups, tuple("abcdefg"))
    began, used = time.perf_counter(), time.process_time()
    advise(candidates, features, divisions, groups)
    seconds = time.perf_counter() - began, time.process_time() - used
    return [str(count), *(f"{value:.1f}" for value in seconds)]


def _features(model: str, size: int) -> list[str]:
    words = ["chain=[target]", f"model={model}", "recipe=quick", f"model.input_size={size}"]
    config = compose_settings(words)
    data = stage_data(config, config.stages[-1])
    assert isinstance(data, DomainDataModule)
    network = build_backbone(config.model, CLASSES).eval()
    count = data.count("train")
    times = []
    for _ in range(2):  # the second round has the images decoded
        began = time.perf_counter()
        with torch.no_grad():
            for begin in range(0, count, BATCH):
                images = data.inputs("train", range(begin, min(begin + BATCH, count)))
                network(images.contiguous(memory_format=torch.channels_last))
        alone = time.perf_counter() - began
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            block_features(network, data, Path(folder))
            times.append((alone, time.perf_counter() - began))
    alone, whole = times[-1]
    return [model, str(count), f"{alone:.1f}", f"{whole:.1f}", f"{whole / alone:.2f}"]


if __name__ == "__main__":
    main()
