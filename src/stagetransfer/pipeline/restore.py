"""A finished run, opened: its network, its data, and the networks of the stages before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from stagetransfer.config.schema import RunConfig
from stagetransfer.config.validate import validate_config
from stagetransfer.data import DomainDataModule
from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.models import AlexNet, carry, load_weights
from stagetransfer.pipeline.stage_data import stage_data
from stagetransfer.training import build_network


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder with metrics.json, and what can be loaded from it.

    `record` is the content of metrics.json. Data and weights are read when first asked for.
    """

    folder: Path
    record: dict[str, Any]
    config: RunConfig

    @property
    def condition(self) -> str:
        """The name of its chain."""
        return str(self.record["condition"])

    @property
    def seed(self) -> int:
        """The seed of its target stage."""
        return int(self.record["seed"])

    @property
    def name(self) -> str:
        """`two_stage r=1 s=0`: for titles."""
        return f"{self.condition} r={self.record['ratio']:g} s={self.seed}"

    @cached_property
    def data(self) -> DomainDataModule:
        """The target's data.

        Raises:
            UserError: it can't be read, or isn't what the run was trained and tested on.
        """
        data = cast(DomainDataModule, stage_data(self.config, self.config.stages[-1]))
        if data.fingerprint != self.record["stages"][-1]["fingerprint"]:
            raise UserError(
                f"{self.folder}: the data of domain {self.config.chain[-1]} has changed since this "
                f"run; bring the images back as they were, or run it anew with force=true"
            )
        if data.split_file_record != self.record.get("splits"):
            raise UserError(
                f"{self.folder}: {data.settings.split_file} has changed since this run; bring it "
                "back as it was, or run it anew"
            )
        return data

    def network(self) -> AlexNet:
        """The trained network, ready to predict."""
        return self._load(self.folder / "checkpoints" / "best.ckpt", len(self.record["classes"]))

    def source_network(self, stage: int) -> AlexNet | None:
        """The network as stage number `stage` (from 0) of the chain left it; None if the store
        no longer has it. Weights that stood in for the stage are loaded from their file."""
        entry = self.record["stages"][stage]
        if "weights" in entry:
            return self._load(entry["weights"], None)
        path = self.folder.parent.parent / "stages" / entry["key"] / "model.ckpt"
        return self._load(path, None) if path.is_file() else None

    def _load(self, source: str | Path, num_classes: int | None) -> AlexNet:
        model = self.config.model
        state = load_weights(
            source,
            model.variant,
            groups=model.groups,
            mean=tuple(model.mean),
            std=tuple(model.std),
        )
        if num_classes is None:
            num_classes = len(state["fc8.bias"])
        network = build_network(model, num_classes)
        carry(network, state)
        return network.eval()


def open_runs(paths: Sequence[Path]) -> list[FinishedRun]:
    """The finished runs among `paths`: run folders, or folders that hold some (outputs, runs).

    Returns them in order of condition, ratio (greatest first) and seed.

    Raises:
        UserError: a path holds no finished run, or a run can't be read.
    """
    folders: dict[Path, None] = {}
    for path in paths:
        found = [
            file.parent.resolve()
            for pattern in ("metrics.json", "*/metrics.json", "runs/*/metrics.json")
            for file in sorted(path.glob(pattern))
        ]
        if not found:
            raise UserError(f"{path}: no finished run here (no metrics.json); see outputs/runs")
        folders.update(dict.fromkeys(found))
    runs = [_open(folder) for folder in folders]
    order = ["scratch", "natural", "texture", "two_stage"]
    return sorted(
        runs,
        key=lambda run: (
            order.index(run.condition) if run.condition in order else len(order),
            run.condition,
            -run.record["ratio"],
            run.seed,
        ),
    )


def _open(folder: Path) -> FinishedRun:
    for name in ("config.yaml", "checkpoints/best.ckpt"):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: {name} is missing; run it anew with force=true")
    settings = cast(DictConfig, OmegaConf.load(folder / "config.yaml"))
    return FinishedRun(folder, read_json(folder / "metrics.json"), validate_config(settings))
