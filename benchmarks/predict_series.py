"""Time per slice and peak memory of a series: python -m benchmarks.predict_series --slices 300

A NIfTI volume of slices of 512 x 512 pixels (one slice of the embedded phantom with other noise in
each copy) is predicted by `write_predictions` with an untrained network. Times are those of the
process on all its threads (CPU seconds), so that other work on the machine changes them little:

* mask: the lungs of the series, with reading its slices;
* network: the network alone, a part of the windows;
* windows: windows are extracted, enlarged, normalised and classified, and form the label map;
* picture: the figure is drawn and saved.

Memory is the process's peak, and how much that is above its size before the prediction.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.predict import untrained_classifier
from benchmarks.tables import show
from stagetransfer.ct import PatchSettings, Problems
from stagetransfer.formats.nifti import write_nifti
from stagetransfer.inference import PredictionOptions, find_input, write_predictions
from stagetransfer.synthetic.lung_slices import FIRST_TEST_PATIENT, lung_slice
from stagetransfer.training.machine import keep_freed_memory


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--input", type=int, default=83, help="side of the input in pixels")
    parser.add_argument("--stride", type=int, default=8)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command does
    seconds: defaultdict[str, float] = defaultdict(float)
    module = importlib.import_module("stagetransfer.inference.write_predictions")
    for name, functions in {
        "mask": ["find_lungs"],
        "windows": ["predict_slice"],
        "picture": ["slice_figure", "_save"],
    }.items():
        for function in functions:
            setattr(module, function, _timed(getattr(module, function), seconds, name))
    classifier = untrained_classifier(arguments.input, training=2000)
    network = classifier.network
    setattr(network, "embed", _timed(network.embed, seconds, "network"))  # noqa: B010
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_series(root / "series.nii.gz", arguments.slices)
        before, start = _peak(), time.process_time()
        source = find_input(root / "series.nii.gz", PatchSettings(), Problems())
        options = PredictionOptions("none", PatchSettings(), 32, "crop", stride=arguments.stride)
        summary = write_predictions(classifier, source, root / "out", options, Problems())
        seconds["all"] = time.process_time() - start
        after = _peak()
    count = summary["slices"]
    rows = [(name, f"{seconds[name] / count:.3f}") for name in seconds]
    show(
        f"{count} slices, {summary['windows'] / count:.0f} windows each, input {arguments.input}",
        ("part", "CPU seconds per slice"),
        rows,
        f"peak memory {after:.0f} MB, {after - before:.0f} MB more than before the prediction",
    )


def _write_series(path: Path, slices: int) -> None:
    drawn = lung_slice(0, FIRST_TEST_PATIENT)
    random = np.random.default_rng(0)
    planes = np.empty((slices, *drawn.hu.shape), np.int16)
    for plane in planes:
        plane[:] = drawn.hu + random.integers(-9, 10, drawn.hu.shape, np.int16)
    write_nifti(path, planes, (1.0, drawn.spacing, drawn.spacing))


def _timed(
    function: Callable[..., Any], seconds: dict[str, float], name: str
) -> Callable[..., Any]:
    @wraps(function)
    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            seconds[name] += time.process_time() - start

    return timed


def _peak() -> float:
    """Return the process's largest resident size so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
