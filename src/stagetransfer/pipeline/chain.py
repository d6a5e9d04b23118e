"""The chain runner: source stages from the store or trained into it, then the target, recorded."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf

from stagetransfer.config.identity import key_of
from stagetransfer.config.instantiate import partial_of
from stagetransfer.config.schema import RunConfig, Stage, decisive
from stagetransfer.data import DomainDataModule, Pretrained
from stagetransfer.errors import UserError, cause
from stagetransfer.files import read_json, write_json, write_text
from stagetransfer.names import LAYERS
from stagetransfer.pipeline.depth_search import search
from stagetransfer.pipeline.distributed import agree, follower, part
from stagetransfer.pipeline.stage import Link, prepare, train, weights
from stagetransfer.pipeline.stage_data import stage_data
from stagetransfer.pipeline.stage_record import (
    data_entry,
    predictions,
    trained_entry,
    weights_entry,
)
from stagetransfer.pipeline.stage_store import StageStore, exclusive
from stagetransfer.runs.writer import versions, write_result
from stagetransfer.seeding import derive
from stagetransfer.training import (
    AlexNetModule,
    Fitted,
    build_network,
    evaluate,
    network_state,
    rates_by_layer,
    transfer,
)
from stagetransfer.training.machine import resolve_precision

log = logging.getLogger(__name__)


class ChainRunner:
    """Runs one chain at one ratio and one seed. Building it checks all input and writes nothing.

    Raises:
        UserError: the data, the weights or the settings can't lead to a run.
    """

    def __init__(self, config: RunConfig) -> None:
        config = with_precision(config)
        self.config = config
        self.store = StageStore(config.outputs / "stages")
        self.links: list[Link] = []
        for number, stage in enumerate(config.stages, 1):
            _check_recipe(stage)
            data = stage_data(config, stage)
            before = self.links[-1] if self.links else None
            key = self._key(stage, data, before.key if before else None)
            self.links.append(Link(stage, data, key, number, before))
        self._check_weights()
        _check_copies(config, self.links[-1])
        ratio, seed = format(config.ratio, "g"), config.seed
        name = f"{config.condition}-r{ratio}-s{seed}-{self.links[-1].key[:8]}"
        self.folder = config.outputs / "runs" / name

    @property
    def finished(self) -> bool:
        """Whether the run's result is there."""
        return (self.folder / "metrics.json").is_file()

    def run(self) -> Path:
        """Does what is left to do; the run's folder, with its metrics.json.

        An error leaves its cause, one line, in the run's failure.txt until the run is tried again.
        """
        if follower():
            self._run()
            return self.folder
        with exclusive(self.folder.parent / ".locks" / f"{self.folder.name}.lock", "this run"):
            if self.config.force and self.folder.exists():
                shutil.rmtree(self.folder)
            if not self.finished:
                failure = self.folder / "failure.txt"
                failure.unlink(missing_ok=True)
                try:
                    self._run()
                except Exception as error:
                    write_text(failure, cause(error) + "\n")
                    raise
        return self.folder

    def _run(self) -> None:
        if not follower():
            write_text(self.folder / "config.yaml", OmegaConf.to_yaml(self.config.tree))
        records = self._sources(len(self.links) - 1)
        self._copy_scalars(len(self.links) - 1, self.folder)
        link = self.links[-1]
        data = cast(DomainDataModule, link.data)
        log.info("stage %s: %d images, ratio %g", link.title, data.count("train"), data.stage.ratio)
        checkpoints, tensorboard = self.folder / "checkpoints", self.folder / "tensorboard"
        more: dict[str, Any] = {}
        if link.stage.transfer and link.stage.transfer.search:
            link, fitted, more["search"] = search(link, self.config, checkpoints, tensorboard)
            module, shown, _ = prepare(link, self.config)
        else:
            module, shown, fitted = train(link, self.config, checkpoints, tensorboard)
        part()
        if follower():
            return
        module.network.load_state_dict(network_state(fitted.best))
        copies, seed = self.config.test_copies, derive(link.seed, "test")
        tested = evaluate(module, shown, self.config.trainer, copies=copies, seed=seed)
        validated = evaluate(module, shown, self.config.trainer, split="validation")
        stages = [*records, trained_entry(link.stage.name, link.key, data, fitted)]
        config = self.config
        write_result(
            self.folder,
            place={
                "condition": config.condition,
                "chain": list(config.chain),
                "ratio": config.ratio,
                "seed": config.seed,
                "source_seed": config.source_seed,
            },
            tested=predictions(data, tested),
            validated=predictions(data, validated),
            data={
                **data_entry(data),
                "ratio_by": config.ratio_by,
                "test_copies": config.test_copies,
                **more,
            },
            stages=stages,
        )
        for name in ("last.ckpt", "search.json"):
            (checkpoints / name).unlink(missing_ok=True)

    def _sources(self, count: int) -> list[dict[str, Any]]:
        """Makes the first `count` stages be in the store; their records."""
        if count == 0:
            return []
        link = self.links[count - 1]
        if isinstance(link.data, Pretrained):
            log.info("stage %s: weights of %s", link.title, link.data.weights)
            return [weights_entry(link.stage.name, link.key, link.data.weights)]
        reused, records = True, list[dict[str, Any]]()
        if not self.store.finished(link.key):
            records = self._sources(count - 1)
            with self.store.make(link.key) as folder:
                if agree(folder is not None):
                    assert folder is not None
                    reused = False
                    log.info("stage %s: %d images", link.title, link.data.count("train"))
                    self._copy_scalars(count - 1, folder)
                    module, _, fitted = train(link, self.config, folder, folder / "tensorboard")
                    if not follower():
                        self._publish(link, folder, records, module, fitted)
            agree(None)  # followers go on when it is published
        made: list[dict[str, Any]] = read_json(self.store.path(link.key) / "stage.json")["stages"]
        if not reused:
            return [*records, {**made[-1], "reused": False}]
        log.info("stage %s: reused from %s", link.title, self.store.path(link.key))
        return [{**record, "reused": True} for record in made]

    def _copy_scalars(self, count: int, folder: Path) -> None:
        """Puts the scalars of the first `count` stages beside those of the next."""
        if count and not follower() and not isinstance(self.links[count - 1].data, Pretrained):
            scalars = self.store.path(self.links[count - 1].key) / "tensorboard"
            shutil.copytree(scalars, folder / "tensorboard", dirs_exist_ok=True)

    def _publish(
        self,
        link: Link,
        folder: Path,
        records: Sequence[dict[str, Any]],
        module: AlexNetModule,
        fitted: Fitted,
    ) -> None:
        data = cast(DomainDataModule, link.data)
        state = {"state_dict": network_state(fitted.best), "hyper_parameters": dict(module.hparams)}
        torch.save(state, folder / "model.ckpt")
        write_json(
            folder / "stage.json",
            {
                "stages": [*records, trained_entry(link.stage.name, link.key, data, fitted)],
                "classes": list(data.classes),
                "identity": self._identity(link.stage, link.data),
                "versions": versions(),
            },
        )
        for name in ("last.ckpt", "best.ckpt"):  # a last without its best could not be resumed
            (folder / name).unlink(missing_ok=True)

    def _identity(self, stage: Stage, data: DomainDataModule | Pretrained) -> dict[str, Any]:
        if isinstance(data, Pretrained):
            return data.identity()
        return {
            "name": stage.name,
            "domain": data.identity(),
            "model": asdict(self.config.model),
            "recipe": decisive(stage.recipe),
            "transfer": decisive(stage.transfer) if stage.transfer else None,
            "seed": stage.seed,
            "precision": self.config.trainer.precision,
            "devices": self.config.trainer.devices,  # times the batch: the global batch
            **self._test_identity(stage, data),
        }

    def _test_identity(self, stage: Stage, data: DomainDataModule) -> dict[str, Any]:
        if self.config.test_copies == 1 or stage is not self.config.stages[-1]:
            return {}
        return {"test": {"copies": self.config.test_copies, **data.settings.random_variants}}

    def _key(self, stage: Stage, data: DomainDataModule | Pretrained, before: str | None) -> str:
        return key_of({**self._identity(stage, data), "before": before})

    def _check_weights(self) -> None:
        """Tries given weights on a network without memory, before anything is written."""
        if not isinstance(self.links[0].data, Pretrained):
            build_network(self.config.model, 2)
            return
        settings = self.links[1].stage.transfer
        assert settings is not None
        with torch.device("meta"):
            network = build_network(self.config.model, 2)
        state = weights(self.links[0], self.config.model, self.config.outputs)
        transfer(
            network,
            state,
            reinitialise=settings.reinitialise,
            frozen=(),
            scheme=self.config.model.initialisation,
            seed=0,
        )


def with_precision(config: RunConfig) -> RunConfig:
    """Return the config with the precision that "auto" stands for on this machine.

    The run's hash and its config.yaml hold this precision: another machine may choose another.
    """
    trainer = config.trainer
    precision = resolve_precision(trainer.precision, trainer.accelerator)
    tree = {**config.tree, "trainer": {**config.tree["trainer"], "precision": precision}}
    return replace(config, trainer=replace(trainer, precision=precision), tree=tree)


def _check_copies(config: RunConfig, last: Link) -> None:
    if config.test_copies > 1 and not cast(DomainDataModule, last.data).settings.random_variants:
        raise UserError(
            f"test_copies={config.test_copies}: domain.{last.stage.name} has no random variants; "
            f"choose some with domain.{last.stage.name}.mirror=true, turn=true or crop=0.1"
        )


def _check_recipe(stage: Stage) -> None:
    """Finds now what would only be found when the stage is trained, hours later."""
    partial_of(stage.recipe.optimizer, "recipe.optimizer")
    if stage.recipe.scheduler:
        partial_of(stage.recipe.scheduler, "recipe.scheduler")
    if stage.transfer and stage.transfer.rates:
        rates_by_layer(LAYERS, stage.transfer.rates)
