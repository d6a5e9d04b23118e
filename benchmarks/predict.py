"""The second opinion's speed against the network's own: python -m benchmarks.predict

One slice of 512 x 512 pixels of the embedded phantom, windows of 32 pixels at stride 8 within its
lungs, an untrained network, as many training features as a judge keeps. In turn:

* network: the same network on the same windows, cut, enlarged and normalised before, in batches;
* windows: what `stagetransfer predict` does of a slice but for mask, map and files: windows cut,
  enlarged, normalised, judged (probabilities, distances, marks);
* slice: the same with the lung mask and both maps.

Throughput is windows a second; a row's share is that of the network's.
"""

from __future__ import annotations

import argparse
import statistics

import torch
import torch.nn.functional as F

from benchmarks.tables import show
from benchmarks.timing import paired_ratio, spread, time_in_turn
from stagetransfer.ct.roi_patches import Cut
from stagetransfer.inference.calibrated_classifier import Judge
from stagetransfer.inference.lung_mask import lung_mask
from stagetransfer.inference.read_slice import prepare, read_slice
from stagetransfer.models import AlexNet, initialise
from stagetransfer.synthetic.lung import CLASSES
from stagetransfer.synthetic.lung_slices import FIRST_TEST_PATIENT, lung_slice
from stagetransfer.training.machine import keep_freed_memory


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--input", type=int, default=83, help="the network's input in pixels")
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--training", type=int, default=2000, help="training features kept")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command does
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = AlexNet(len(CLASSES), "paper", input_size=arguments.input)
    initialise(network, "kaiming", generator=torch.Generator().manual_seed(0))
    judge = Judge(
        network,
        CLASSES,
        temperature=1.0,
        features=F.normalize(torch.rand(arguments.training, 4096)),
        limit=1.0,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        device=device,
    )
    one = lung_slice(0, FIRST_TEST_PATIENT)
    hu, cut = one.hu.astype(float), Cut()
    spacing = (one.spacing, one.spacing)
    lung = lung_mask(hu, spacing)
    sheet = prepare(hu, lung, spacing, cut, arguments.stride)
    count = len(sheet.windows)
    ready = [judge.inputs(batch) for batch in sheet.batches(arguments.batch, judge.device)]

    def network_alone() -> None:
        with torch.inference_mode():
            for batch in ready:
                judge.network(batch)

    def windows() -> None:
        again = prepare(hu, lung, spacing, cut, arguments.stride)
        judge(again.batches(arguments.batch, judge.device))

    def whole() -> None:
        mask = lung_mask(hu, spacing)
        options = {"stride": arguments.stride, "batch": arguments.batch}
        read_slice(judge, hu, mask, spacing, cut, **options)

    seconds = time_in_turn(
        {"network": network_alone, "windows": windows, "slice": whole}, arguments.rounds
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


if __name__ == "__main__":
    main()
