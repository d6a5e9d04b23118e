"""The networks of a run read its own test set under every corruption and severity."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from stagetransfer.data import DomainDataModule, TargetDataModule
from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.pipeline.restore import RestoredRun
from stagetransfer.runs.run import Run
from stagetransfer.statistics.metrics import Array
from stagetransfer.stress.corruptions import SEVERITIES, Corruption, Pixels, Scale, corrupt
from stagetransfer.synthetic.lung import WINDOW
from stagetransfer.training.machine import autocast

BATCH = 128


def every_test(scale: Scale) -> list[tuple[Corruption, int]]:
    """Return the K tests: the images as they are, then each corruption at five severities."""
    kinds = scale.corruptions
    return [(kinds[0], 0), *((kind, severity) for kind in kinds for severity in SEVERITIES[1:])]


def scale_of(data: DomainDataModule) -> Scale:
    """Return the HU window of a domain's images, and whether they are of three slices.

    Both are known of the embedded target, and from the summary.json of `stagetransfer extract`.
    """
    if data.settings.layout == "embedded" and isinstance(data, TargetDataModule):
        return Scale(WINDOW)
    try:
        cut = read_json(Path(str(data.settings.root)) / "summary.json")["cut"]
        level, width = float(cut["level"]), float(cut["width"])
    except (UserError, KeyError, TypeError, ValueError):
        return Scale()  # no such file, or that of another program
    known = 0 < width < np.inf and np.isfinite(level)
    return Scale((level, width) if known else None, neighbours=cut.get("neighbours") == 1)


def stored_image(data: DomainDataModule, position: int) -> tuple[str, Pixels]:
    """Return id and pixels (H, W, C) of a test image, before it becomes a network's input."""
    image = data.image_set("test").__getitems__([position]).images[0]
    return str(data.samples.ids[data.rows["test"][position]]), image.movedim(0, -1).numpy()


def tested(
    run: Run,
    restored: Mapping[Path, tuple[RestoredRun, DomainDataModule]],
    scale: Scale,
    device: str,
) -> Array:
    """Return the probabilities (K, n, C) of a run's n test images in every test, in its order.

    `restored` has the network and the data of each folder of `run.parts`. UserError if the data no
    longer have a test image that the run was tested on.
    """
    places = {name: i for i, name in enumerate(run.ids)}
    whole = np.empty((len(every_test(scale)), len(run.ids), len(run.classes)))
    for part in run.parts:
        source, data = restored[part.folder]
        rows = {str(data.samples.ids[row]): i for i, row in enumerate(data.rows["test"])}
        if missing := [name for name in part.ids if name not in rows]:
            raise UserError(
                f"{part.folder}: its data have no test image {missing[0]!r} any more. Run it again "
                "with force=true."
            )
        own = [rows[name] for name in part.ids]
        whole[:, [places[name] for name in part.ids]] = _read(source, data, own, scale, device)
    return whole


@torch.inference_mode()
def _read(
    run: RestoredRun, data: DomainDataModule, positions: list[int], scale: Scale, device: str
) -> Array:
    network = run.network().to(device).to(memory_format=torch.channels_last)
    batches = []
    for first in range(0, len(positions), BATCH):
        images = [stored_image(data, position) for position in positions[first : first + BATCH]]
        found = []
        for kind, severity in every_test(scale):
            stack = [corrupt(image, kind, severity, scale, name) for name, image in images]
            x = data.to_input(torch.from_numpy(np.stack(stack)).movedim(-1, 1).to(device))
            with autocast(run.config.trainer.precision, device):
                logits = network(x)
            found.append(logits.double().softmax(1).cpu().numpy())
        batches.append(np.stack(found))
    return np.concatenate(batches, axis=1)
