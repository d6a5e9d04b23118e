"""Restore a finished run: its network, its data, and the networks of the stages before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from stagetransfer.config.schema import RunConfig
from stagetransfer.config.validate import validate_config
from stagetransfer.data import DomainDataModule
from stagetransfer.errors import UserError
from stagetransfer.files import read_yaml
from stagetransfer.models import Backbone, accelerate, build_backbone, copy_blocks, read_weights
from stagetransfer.pipeline.run_folder import KEEP, whole_state
from stagetransfer.pipeline.stage_data import stage_data
from stagetransfer.runs.reader import check_texts, find_runs, is_finished, read_record
from stagetransfer.runs.study import condition_order

# The only classes that a finished run's config may name: a received one could name any code.
OWN_DATA = tuple(
    f"stagetransfer.data.{kind}DataModule" for kind in ("Natural", "Texture", "Target")
)


@dataclass(frozen=True)
class RestoredRun:
    """A finished run from which data and networks can be loaded; each is loaded when asked for.

    Its folder may come from somebody else, so nothing that it names is executed or downloaded.
    `record` is the content of metrics.json.
    """

    folder: Path
    record: dict[str, Any]
    config: RunConfig
    kept: dict[str, Any]  # the file of the network, and a digest of what it needs of the source

    @property
    def condition(self) -> str:
        """The name of the chain."""
        return str(self.record["condition"])

    @property
    def seed(self) -> int:
        """The seed of the target stage."""
        return int(self.record["seed"])

    @property
    def name(self) -> str:
        """A short name for titles, such as "two_stage r=1 s=0"."""
        return f"{self.condition} r={self.record['ratio']:g} s={self.seed}"

    @cached_property
    def data(self) -> DomainDataModule:
        """The data of the target domain.

        UserError if they cannot be read, or the run was trained and tested on other data.
        """
        if (named := self.config.stages[-1].domain.get("_target_")) not in OWN_DATA:
            raise UserError(
                f"{self.folder / 'config.yaml'}: domain.{self.config.chain[-1]}._target_={named} "
                "is not run, because a finished run may come from somebody else. Only "
                f"{', '.join(OWN_DATA)} are used; your own class works in trainings"
            )
        data = cast(DomainDataModule, stage_data(self.config, self.config.stages[-1]))
        if data.fingerprint != self.record["stages"][-1]["fingerprint"]:
            raise UserError(
                f"{self.folder}: the data of domain {self.config.chain[-1]} has changed since this "
                "run. Restore the images, or run again with force=true."
            )
        if data.split_file_record != self.record.get("splits"):
            raise UserError(
                f"{self.folder}: {data.settings.split_file} has changed since this run. Restore "
                "the file, or run again with force=true."
            )
        return data

    def network(self) -> Backbone:
        """Return the trained network, ready to predict.

        UserError if its weights or those of the source stage that it needs cannot be read.
        """
        state = self._state(self.folder / "checkpoints" / self.kept["file"])
        if self.kept["file"] == "head.ckpt":
            source, digest = self._state(self.source(-2)), self.kept.get("source_sha256")
            state = whole_state(state, source, digest, self.folder)
        return self._network(state, len(self.record["classes"]))

    def source(self, stage: int) -> str | Path:
        """Return the file with the weights of a stage before, or the word torchvision."""
        entry = self.record["stages"][stage]
        if "weights" in entry:
            return str(entry["weights"])
        return self.folder.parent.parent / "stages" / str(entry["key"]) / "model.ckpt"

    def source_network(self, stage: int) -> Backbone | None:
        """Return the network after a stage of the chain; None if it cannot be had.

        The store may no longer have it, or published weights have no classifier.
        If weights from a file replaced the stage, these are loaded. Stages count from 0.
        """
        source = self.source(stage)
        if isinstance(source, Path) and not source.is_file():
            return None
        state = self._state(source)
        head = build_backbone(self.config.model, 2).head
        if f"{head}.weight" not in state:
            return None
        return self._network(state, len(state[f"{head}.weight"]))

    def _state(self, source: str | Path) -> dict[str, Tensor]:
        return dict(read_weights(source, self.config.model))

    def _network(self, state: Mapping[str, Tensor], num_classes: int) -> Backbone:
        network = build_backbone(self.config.model, num_classes)
        accelerate(network, winograd=self.config.trainer.winograd)
        copy_blocks(network, state)
        return network.eval()


def restore_runs(paths: Sequence[Path]) -> list[RestoredRun]:
    """Return the finished runs at `paths`, by condition, ratio (greatest first) and seed.

    UserError if a path holds no finished run, or a run cannot be read. The paths are run folders,
    or folders that hold some (`runs`, outputs folders).
    """
    folders: dict[Path, None] = {}
    for path in paths:
        found = [folder for folder in find_runs([path]) if is_finished(folder)]
        if not found:
            raise UserError(f"{path}: no finished run (no metrics.json). See outputs/runs.")
        folders.update(dict.fromkeys(found))
    return sorted(
        (_restore(folder) for folder in folders),
        key=lambda run: (condition_order(run.condition), -run.record["ratio"], run.seed),
    )


def _restore(folder: Path) -> RestoredRun:
    record = read_record(folder)
    kept = record.get("kept") or {"file": "best.ckpt"}
    if not isinstance(kept, dict) or kept.get("file", 0) not in KEEP.values():
        raise UserError(f"{folder / 'metrics.json'}: kept={kept!r}: it names no known file.")
    if record.get("imported"):
        raise UserError(
            f"{folder}: its predictions were imported, so there is no network. Leave the run out, "
            "for example with --conditions."
        )
    if kept["file"] is None:
        raise UserError(
            f"{folder}: keep=none left no network. Run again with force=true keep=best."
        )
    for name in ("config.yaml", f"checkpoints/{kept['file']}"):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: {name} is missing. Run again with force=true.")
    file, cure = folder / "config.yaml", "Leave the run out, or run it again."
    settings = read_yaml(file, cure)
    check_texts(settings, file)
    try:
        for name in ("pictures", "gradient_clip_val", "gradient_clip_algorithm"):
            settings.get("trainer", {}).pop(name, None)  # keys of earlier versions
        for domain in settings.get("domain", {}).values():
            (domain.get("options") or {}).pop("url", None)  # nothing is downloaded for a run
        if "${" in repr(settings):  # a resolver could read the environment
            raise UserError("it holds ${...}, but a run writes resolved values")
        config = validate_config(OmegaConf.create(settings))
    except (UserError, OmegaConfBaseException, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{file}: {str(error).rstrip('.')}. {cure}") from error
    run = RestoredRun(folder, record, config, kept)
    if kept["file"] == "head.ckpt":
        source = run.source(-2) if len(record["stages"]) > 1 else folder
        if isinstance(source, Path) and not source.is_file():
            raise UserError(
                f"{folder}: head.ckpt needs {source}, which is missing. Restore it, or run again "
                "with force=true."
            )
    return run
