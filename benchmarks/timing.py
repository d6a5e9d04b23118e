"""Candidates timed in turn, round after round, so that all meet the same machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

import torch


def time_in_turn(
    candidates: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each candidate in each round; one round before them is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            _wait()
            began = time.perf_counter()
            run()
            _wait()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def spread(values: list[float]) -> str:
    """The median, and the least and greatest."""
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def machine() -> str:
    """What a figure was measured on, in one line."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return (
        f"{device}, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, captum {version('captum')}"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(line for line in file if line.startswith("model name"))
        return name.split(":", 1)[1].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
