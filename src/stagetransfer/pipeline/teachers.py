"""Finished runs whose averaged probabilities a network is trained on, in place of the labels.

Hinton, Vinyals and Dean (2015, arXiv 1503.02531); Christodoulidis et al. (2017) distil an ensemble
of networks from several source domains. The teachers see the same augmented images as the student
(Beyer et al. 2022, arXiv 2106.05237). Each has the temperature that fits its validation images, as
in `runs.ensembles`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stagetransfer.config.schema import RunConfig
from stagetransfer.data import DomainDataModule
from stagetransfer.errors import UserError
from stagetransfer.models import Backbone
from stagetransfer.pipeline.restore import RestoredRun, restore_runs
from stagetransfer.runs.ensembles import temperature
from stagetransfer.runs.reader import is_finished, read_runs


class Teachers:
    """The mean of the probabilities of networks, each at its own temperature.

    It is no module, so that its weights are in no checkpoint of the student.
    """

    def __init__(self, networks: Sequence[Backbone], temperatures: Sequence[float]) -> None:
        self.networks = [network.eval() for network in networks]
        self.temperatures = temperatures

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities (B, C) of network inputs (B, 3, S, S), in float32."""
        total = torch.zeros(())
        for network, divisor in zip(self.networks, self.temperatures, strict=True):
            logits = network.to(images.device)(images).float()
            total = total.to(images.device) + (logits / divisor).softmax(1)
        return total / len(self.networks)


def check_teachers(config: RunConfig, data: DomainDataModule) -> list[str]:
    """Return the names of the runs of `teacher`, sorted; they end with a hash of all that decides.

    UserError if one of them cannot teach this target: it has another input, other classes, another
    ratio, or was not trained and tested on the same division of the same images. Below ratio 1 the
    seed chooses the images: teachers of several seeds would bring labels that the student lacks.
    """
    runs = _restored(config)
    for run in runs:
        own, given = config.model, run.config.model
        where = f"teacher: {run.folder}"
        if (own.input_size, own.mean, own.std) != (given.input_size, given.mean, given.std):
            raise UserError(f"{where}: its input has another size, mean or std (model.*)")
        if list(run.record["classes"]) != list(data.classes):
            raise UserError(f"{where}: it has other classes than this target")
        if run.record["ratio"] != config.ratio:
            raise UserError(
                f"{where}: it was trained with ratio={run.record['ratio']:g}, which is not this "
                f"run's ratio={config.ratio:g}"
            )
        if run.data.input_identity() != data.input_identity():
            raise UserError(
                f"{where}: its training, validation and test images are not those of this run, so "
                "it may have been trained on images that this run is tested on"
            )
        for split in ("train", "validation"):
            if not np.array_equal(run.data.rows[split], data.rows[split]):
                raise UserError(
                    f"{where}: ratio={config.ratio:g} chose other images for it, because it has "
                    f"seed={run.config.seed}. Use runs with this run's seed={config.seed}"
                )
    return sorted(run.folder.name for run in runs)


def read_teachers(config: RunConfig) -> Teachers:
    """Return the teachers of a run, with their weights."""
    runs = {run.folder.name: run for run in _restored(config)}
    finished, _ = read_runs([runs[name].folder for name in sorted(runs)])
    temperatures = [temperature(run) for run in finished]
    return Teachers([runs[run.name].network() for run in finished], temperatures)


def _restored(config: RunConfig) -> list[RestoredRun]:
    # A folder of runs would be read again when more runs have finished, also the student itself.
    for path in config.teacher:
        if not is_finished(Path(path)):
            raise UserError(
                f"teacher: {path}: not the folder of a finished run, which holds metrics.json. "
                "Name each run"
            )
    return restore_runs([Path(path) for path in config.teacher])
