"""The speed of predicting a slice, compared with the network alone: python -m benchmarks.predict

One slice of 512 x 512 pixels of the embedded phantom has windows of 32 pixels at stride 8 in its
lungs. The network is not trained, and as many training features are used as in a real run. Measured
alternately:

* network: only the network, on windows that were extracted, enlarged and normalised before;
* windows: what `stagetransfer predict` does on a slice except lung mask, label map and files:
  windows are extracted, enlarged, normalised and classified (probabilities, distances, marks);
* slice: the same with the lung mask and both label maps.

The throughput is in windows per second; the last column is relative to that of the network.
"""

from __future__ import annotations

import argparse
import statistics

import torch

from benchmarks.tables import show
from benchmarks.timing import paired_ratio, spread, time_in_turn
from stagetransfer.ct.roi_patches import PatchSettings
from stagetransfer.inference.calibrated_classifier import CalibratedClassifier, split_forward
from stagetransfer.inference.lung_mask import find_lungs
from stagetransfer.inference.slice_prediction import predict_slice, prepare_slice
from stagetransfer.models import InputSpec, accelerate, alexnet_backbone
from stagetransfer.synthetic.lung import CLASSES
from stagetransfer.synthetic.lung_slices import FIRST_TEST_PATIENT, lung_slice
from stagetransfer.training.machine import keep_freed_memory


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--input", type=int, default=83, help="side of the input in pixels")
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--training", type=int, default=2000, help="number of training features")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command does
    classifier = untrained_classifier(arguments.input, arguments.training)
    phantom = lung_slice(0, FIRST_TEST_PATIENT)
    hu, settings = phantom.hu.astype(float), PatchSettings()
    spacing = (phantom.spacing, phantom.spacing)
    lung = find_lungs([(0, hu)], spacing).mask(0)
    prepared = prepare_slice(hu, lung, spacing, settings, arguments.stride)
    count = len(prepared.windows)
    inputs = [
        classifier.inputs(batch) for batch in prepared.batches(arguments.batch, classifier.device)
    ]

    def network_alone() -> None:
        with torch.inference_mode():
            for batch in inputs:
                classifier.network(batch)

    def windows() -> None:
        prepared = prepare_slice(hu, lung, spacing, settings, arguments.stride)
        classifier(prepared.batches(arguments.batch, classifier.device))

    def whole_slice() -> None:
        mask = find_lungs([(0, hu)], spacing).mask(0)
        options = {"stride": arguments.stride, "batch": arguments.batch}
        predict_slice(classifier, hu, mask, spacing, settings, **options)

    seconds = time_in_turn(
        {"network": network_alone, "windows": windows, "slice": whole_slice}, arguments.rounds
    )
    title = (
        f"{count} windows of a slice at stride {arguments.stride}, input {arguments.input}, "
        f"batches of {arguments.batch}, {arguments.rounds} rounds"
    )
    rows = []
    for name, values in seconds.items():
        share = paired_ratio(seconds["network"], values)
        speed = f"{count / statistics.median(values):.0f}"
        rows.append((name, spread(values), speed, f"{share:.2f}"))
    columns = ("part", "seconds (least-greatest)", "windows/s", "of the network's")
    show(title, columns, rows)


def untrained_classifier(side: int, training: int) -> CalibratedClassifier:
    """Return the paper's network for inputs of this side, with random training features."""
    network = alexnet_backbone(len(CLASSES), "paper", input=InputSpec(side))
    accelerate(network)
    network.initialise("kaiming", 0)
    features = split_forward(network, torch.zeros(1, 3, side, side), "32-true")[0].shape[1]
    return CalibratedClassifier(
        network,
        CLASSES,
        temperature=1.0,
        features=torch.rand(training, features),
        max_distance=1.0,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


if __name__ == "__main__":
    main()
