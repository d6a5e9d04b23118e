"""The chain runner: source stages from the store or trained into it, then the target, recorded."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from stagetransfer.data import DomainDataModule, Pretrained
from stagetransfer.errors import cause
from stagetransfer.network import LAYERS, load_weights
from stagetransfer.ranks import agree, follower, part
from stagetransfer.records import key_of, read_json, write_atomically, write_json
from stagetransfer.results import trained_entry, versions, weights_entry, write_result
from stagetransfer.seeding import derive
from stagetransfer.settings import RunConfig, Stage
from stagetransfer.stages import stage_data
from stagetransfer.store import StageStore, exclusive
from stagetransfer.targets import partial_of
from stagetransfer.training import (
    AlexNetModule,
    Fitted,
    StageTransfer,
    build_network,
    evaluate,
    fit,
    network_state,
    rates_by_layer,
    transfer,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Link:
    """A stage made ready: its data read and checked, its key known."""

    stage: Stage
    data: DomainDataModule | Pretrained
    key: str
    number: int  # place in the chain, from 1

    @property
    def title(self) -> str:
        """Names the stage's folder in TensorBoard."""
        return f"{self.number}-{self.stage.name}"


class ChainRunner:
    """Runs one chain at one ratio and one seed. Building it checks all input and writes nothing.

    Raises:
        UserError: the data, the weights or the settings can't lead to a run.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.store = StageStore(config.outputs / "stages")
        self.links: list[Link] = []
        for number, stage in enumerate(config.stages, 1):
            _check_recipe(stage)
            data = stage_data(config, stage)
            before = self.links[-1].key if self.links else None
            self.links.append(Link(stage, data, self._key(stage, data, before), number))
        self._check_weights()
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
                    write_atomically(failure, cause(error) + "\n")
                    raise
        return self.folder

    def _run(self) -> None:
        if not follower():
            write_atomically(self.folder / "config.yaml", self.config.resolved)
        records = self._sources(len(self.links) - 1)
        self._copy_scalars(len(self.links) - 1, self.folder)
        link = self.links[-1]
        data = cast(DomainDataModule, link.data)
        log.info("stage %s: %d images, ratio %g", link.title, data.count("train"), data.ratio)
        module, fitted = self._fit(link, self.folder / "checkpoints", self.folder / "tensorboard")
        part()
        if follower():
            return
        module.network.load_state_dict(network_state(fitted.best))
        evaluate(module, data, self.config.trainer)
        stages = [*records, trained_entry(link.stage.name, link.key, data, fitted)]
        write_result(self.folder, self.config, data, module.tested(), stages)
        (self.folder / "checkpoints" / "last.ckpt").unlink(missing_ok=True)

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
                    module, fitted = self._fit(link, folder, folder / "tensorboard")
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

    def _fit(self, link: Link, folder: Path, tensorboard: Path) -> tuple[AlexNetModule, Fitted]:
        stage, data = link.stage, cast(DomainDataModule, link.data)
        recipe, seed = stage.recipe, derive(stage.seed, link.title)
        module = AlexNetModule(
            self.config.model,
            data.classes,
            partial_of(recipe.optimizer, "recipe.optimizer"),
            partial_of(recipe.scheduler, "recipe.scheduler") if recipe.scheduler else None,
            scheduler_interval=recipe.scheduler_interval,
            rates=(stage.transfer.rates if stage.transfer else None) or [[".*", 1.0]],
            bias_rate=recipe.bias_rate,
            bias_decay=recipe.bias_decay,
            class_weights=data.class_weights() if recipe.balance == "loss" else None,
            seed=derive(seed, "initial"),
            channels_last=self.config.trainer.channels_last,
        )
        fitted = fit(
            module,
            data,
            title=link.title,
            folder=folder,
            tensorboard=tensorboard / link.title,
            epochs=recipe.epochs,
            monitor=recipe.monitor,
            seed=seed,
            settings=self.config.trainer,
            transfer=self._transfer(link, derive(seed, "anew")),
        )
        return module, fitted

    def _transfer(self, link: Link, seed: int) -> StageTransfer | None:
        settings = link.stage.transfer
        if settings is None:
            return None
        return StageTransfer(
            self._state(self.links[link.number - 2]),
            reinitialise=settings.reinitialise,
            frozen=settings.frozen_layers(),
            scheme=self.config.model.initialisation,
            seed=seed,
        )

    def _state(self, link: Link) -> dict[str, Tensor]:
        """The weights that a finished stage hands on."""
        model = self.config.model
        if isinstance(link.data, Pretrained):
            source: str | Path = link.data.weights
        else:
            source = self.store.path(link.key) / "model.ckpt"
        return load_weights(
            source,
            model.variant,
            groups=model.groups,
            mean=tuple(model.mean),
            std=tuple(model.std),
        )

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
            "recipe": asdict(stage.recipe),
            "transfer": asdict(stage.transfer) if stage.transfer else None,
            "seed": stage.seed,
            "precision": self.config.trainer.precision,
            "devices": self.config.trainer.devices,  # times the batch: the global batch
        }

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
        state = self._state(self.links[0])
        transfer(
            network,
            state,
            reinitialise=settings.reinitialise,
            frozen=(),
            scheme=self.config.model.initialisation,
            seed=0,
        )


def _check_recipe(stage: Stage) -> None:
    """Finds now what would only be found when the stage is trained, hours later."""
    partial_of(stage.recipe.optimizer, "recipe.optimizer")
    if stage.recipe.scheduler:
        partial_of(stage.recipe.scheduler, "recipe.scheduler")
    if stage.transfer and stage.transfer.rates:
        rates_by_layer(LAYERS, stage.transfer.rates)
