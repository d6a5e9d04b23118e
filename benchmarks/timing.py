"""Timing of candidates in turn, round after round, so that all meet the same machine load."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version

import torch


def time_in_turn(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of each candidate in each round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            synchronize()
            start = clock()
            run()
            synchronize()
            if number:
                seconds[name].append(clock() - start)
    return seconds


def synchronize() -> None:
    """Wait until the GPU, if there is one, has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return the median, and in brackets the least and the greatest value."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Return the median over rounds of the ratio: what disturbs one round disturbs both values."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def machine() -> str:
    """Return one line on the hardware and the versions."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    versions = ("torchvision", "pytorch-lightning", "captum")
    return (
        f"{device}, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, " + ", ".join(f"{one} {version(one)}" for one in versions)
    )


def _processor() -> str:
    """Return the processor's name and the instructions that PyTorch uses."""
    found = {"model name": platform.processor() or platform.machine(), "flags": ""}
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            found[key.strip()] = value.strip()
    half = "with" if "avx512_bf16" in found["flags"].split() else "without"
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{found['model name']} ({instructions}, {half} bfloat16 in hardware)"
