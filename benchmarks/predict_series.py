"""Time per slice and peak memory of a series: python -m benchmarks.predict_series --slices 300

A NIfTI volume of slices of 512 x 512 pixels (one slice of the embedded phantom with other noise in
each copy), or with `--seg` a DICOM series of them, is predicted by `write_predictions` with an
untrained network. Times are those of the process on all its threads (CPU seconds), so that other
work on the machine changes them little:

* mask: the lungs of the series, with reading its slices;
* network: the network alone, a part of the windows;
* windows: windows are extracted, enlarged, normalised and classified, and form the label map;
* picture: the figure is drawn and saved;
* objects: with `--seg`, SEG and structured report.

Memory is the process's peak, and how much that is above its size before the prediction.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from benchmarks.predict import untrained_classifier
from benchmarks.tables import show
from stagetransfer.ct import PatchSettings, Problems
from stagetransfer.formats.nifti import write_nifti
from stagetransfer.inference import PredictionOptions, find_input, write_predictions
from stagetransfer.synthetic.lung_slices import FIRST_TEST_PATIENT, Slice, lung_slice
from stagetransfer.training.machine import keep_freed_memory


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--input", type=int, default=83, help="side of the input in pixels")
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--seg", action="store_true", help="a DICOM series, SEG and report")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command does
    seconds: defaultdict[str, float] = defaultdict(float)
    module = importlib.import_module("stagetransfer.inference.write_predictions")
    for name, functions in {
        "mask": ["lungs_of"],
        "windows": ["predict_slice"],
        "picture": ["slice_figure", "_save"],
    }.items():
        for function in functions:
            setattr(module, function, _timed(getattr(module, function), seconds, name))
    series_objects = importlib.import_module("stagetransfer.inference.series_objects").SeriesObjects
    series_objects.write = _timed(series_objects.write, seconds, "objects")
    classifier = untrained_classifier(arguments.input, training=2000)
    network = classifier.network
    setattr(network, "embed", _timed(network.embed, seconds, "network"))  # noqa: B010
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        series = root / ("series" if arguments.seg else "series.nii.gz")
        (_write_dicom if arguments.seg else _write_nifti)(series, arguments.slices)
        before, start = _peak(), time.process_time()
        source = find_input(series, PatchSettings(), Problems())
        options = PredictionOptions(
            "none", PatchSettings(), 32, "crop", stride=arguments.stride, seg=arguments.seg
        )
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


def _planes(drawn: Slice, slices: int) -> Iterator[NDArray[np.int16]]:
    random = np.random.default_rng(0)
    for _ in range(slices):
        yield drawn.hu + random.integers(-9, 10, drawn.hu.shape, np.int16)


def _write_nifti(path: Path, slices: int) -> None:
    drawn = lung_slice(0, FIRST_TEST_PATIENT)
    spacing = (1.0, drawn.spacing, drawn.spacing)
    write_nifti(path, np.stack(list(_planes(drawn, slices))), spacing)


def _write_dicom(folder: Path, slices: int) -> None:
    folder.mkdir()
    drawn = lung_slice(0, FIRST_TEST_PATIENT)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for index, plane in enumerate(_planes(drawn, slices)):
        one = Dataset()
        one.SOPClassUID, one.SOPInstanceUID, one.Modality = CTImageStorage, generate_uid(), "CT"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.PatientID, one.SeriesNumber, one.InstanceNumber = "phantom", 1, index + 1
        one.ImageType, one.RescaleType = ["ORIGINAL", "PRIMARY", "AXIAL"], "HU"
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient, one.PixelSpacing = [0, 0, index], [drawn.spacing, drawn.spacing]
        one.SliceThickness, one.RescaleSlope, one.RescaleIntercept = 1, 1, 0
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        (one.Rows, one.Columns), one.PixelData = plane.shape, plane.tobytes()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dcmwrite(folder / f"{index:04d}.dcm", one, enforce_file_format=True)


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
