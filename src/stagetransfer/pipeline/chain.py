"""Running a chain: source stages from the store or trained into it, then the target, recorded."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from stagetransfer.config.schema import RunConfig, Stage
from stagetransfer.config.stage_key import key_of, stage_identity
from stagetransfer.data import DomainDataModule, Pretrained
from stagetransfer.errors import UserError
from stagetransfer.files import write_json, write_text
from stagetransfer.pipeline.checks import (
    check_copies,
    check_monitor,
    check_network,
    check_targets,
    check_trainer,
    stage_epochs,
    with_precision,
)
from stagetransfer.pipeline.distributed import is_follower, leaders_value, leave_process_group
from stagetransfer.pipeline.loggers import LOG_FOLDERS
from stagetransfer.pipeline.run_folder import failure_recorded, keep_weights, settle, work_folder
from stagetransfer.pipeline.search import Search, search_depth, search_rates
from stagetransfer.pipeline.stage import PreparedStage, prepare, source_weights, train
from stagetransfer.pipeline.stage_data import stage_data
from stagetransfer.pipeline.stage_record import (
    data_entry,
    network_entry,
    predictions,
    trained_entry,
)
from stagetransfer.pipeline.stage_store import StageStore, exclusive
from stagetransfer.pipeline.teachers import check_teachers
from stagetransfer.runs.reader import is_finished
from stagetransfer.runs.writer import untrained_stage, versions, write_result
from stagetransfer.seeding import derive
from stagetransfer.training import (
    ClassifierModule,
    Fitted,
    Health,
    StageData,
    TestResult,
    assess,
    evaluate,
    network_state,
    use_image_cache,
    write_checkpoint,
)

log = logging.getLogger(__name__)


class ChainRunner:
    """Runs one chain at one ratio and one seed.

    Building it reads the data and checks all input, and writes nothing. UserError if the data, the
    weights or the settings cannot lead to a run. The `overrides` of the command line are kept
    beside the run. `config` gets the precision that this machine resolves "auto" to, and `stages`
    are ready to be trained. `folder` is the run's folder, whose name ends with 8 digits of the hash
    of all that decides; for a chain of sources alone, the last stage's folder in the store.
    """

    def __init__(self, config: RunConfig, overrides: Sequence[str] = ()) -> None:
        self.overrides = list(overrides)
        self.config = config = with_precision(config)
        check_trainer(config)
        self.store = StageStore(config.outputs / "stages")
        self.stages: list[PreparedStage] = []
        for number, stage in enumerate(config.stages, 1):
            check_targets(stage)
            data = stage_data(config, stage)
            check_monitor(stage, data)
            before = self.stages[-1] if self.stages else None
            before_key = before.key if before else None
            key = key_of({**self._identity(stage, data), "before": before_key})
            epochs = stage_epochs(config, stage, data)
            self.stages.append(PreparedStage(stage, data, key, number, before, epochs))
        check_network(config, self.stages)
        check_copies(config, self.stages[-1])
        name = f"{config.condition}-r{config.ratio:g}-s{config.seed}-{key[:8]}"
        self.folder = config.outputs / "runs" / name if self.has_target else self.store.path(key)

    @property
    def finished(self) -> bool:
        """Return whether the run's result exists."""
        return is_finished(self.folder) if self.has_target else (self.folder / "DONE").is_file()

    @property
    def has_target(self) -> bool:
        """Return whether the last stage is tested; otherwise all stages are sources."""
        return self.config.stages[-1].is_target

    def run(self) -> Path:
        """Do what is left to do, and return the run's folder with its metrics.json.

        A chain of sources alone has no run: its stages are brought into the store.

        With `force`, a finished run's folder is replaced once the new run is finished. A killed run
        continues where it stopped, with `force` too.
        """
        if not self.has_target:
            if self.config.force:
                raise UserError(
                    f"force=true: other runs share {self.folder}. Delete it to train it again"
                )
            self._sources(len(self.stages))
            leave_process_group()
            return self.folder
        if is_follower():
            self._run(work_folder(self.folder, self.config.force))
            return self.folder
        with exclusive(self.folder.parent / ".locks" / f"{self.folder.name}.lock", "this run"):
            work = work_folder(self.folder, self.config.force)
            if not is_finished(work):
                with failure_recorded(work):
                    self._run(work)
            settle(work, self.folder)
        return self.folder

    def _run(self, work: Path) -> None:
        config, checkpoints = self.config, work / "checkpoints"
        if not is_follower():
            write_text(work / "config.yaml", OmegaConf.to_yaml(config.tree))
            write_text(work / "overrides.yaml", OmegaConf.to_yaml(self.overrides))
        records = self._sources(len(self.stages) - 1)
        self._copy_logs(len(self.stages) - 1, work)
        target = self.stages[-1]
        data = cast(DomainDataModule, target.data)
        counts = [data.count(split) for split in ("train", "validation", "test")]
        text = "%s: %d training, %d validation and %d test images, ratio %g"
        log.info(text, self._place(target), *counts, config.ratio)
        self._open(data)
        searched: dict[str, Any] = {}
        search = Search(target, config, checkpoints, logs=work, run=self.folder.name)
        if target.stage.transfer and target.stage.transfer.search:
            target, fitted, searched["search"] = search_depth(search)
        elif target.stage.recipe.search_rates:
            target, fitted, searched["search_rates"] = search_rates(search)
        if searched:
            module, shown, _ = prepare(target, config)
        else:
            module, shown, fitted = train(
                target, config, checkpoints=checkpoints, logs=work, run=self.folder.name
            )
        leave_process_group()
        if is_follower():
            return
        validated, health = self._assess(target, module, shown, fitted)
        copies, seed = config.test_copies, derive(target.seed, "test")
        tested = evaluate(module, shown, config.trainer, copies=copies, seed=seed)
        source = {}
        if target.before is not None and config.keep == "head":
            source = source_weights(target.before, config.model, config.outputs)
        write_result(
            work,
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
                **data_entry(data, tested, validated),
                "ratio_by": config.ratio_by,
                "test_copies": config.test_copies,
                **searched,
                "kept": keep_weights(config.keep, checkpoints, source),
                **network_entry(config.model, module.network),
            },
            stages=[*records, trained_entry(target.stage.name, target.key, data, fitted, health)],
        )

    def _sources(self, count: int) -> list[dict[str, Any]]:
        """Bring the first `count` stages into the store, and return their records."""
        if count == 0:
            return []
        prepared = self.stages[count - 1]
        if isinstance(prepared.data, Pretrained):
            log.info("%s: weights of %s", self._place(prepared), prepared.data.weights)
            name, weights = prepared.stage.name, prepared.data.weights
            return [untrained_stage(name, prepared.key, reused=True, weights=weights)]
        reused, records = True, list[dict[str, Any]]()
        if not self.store.finished(prepared.key):
            records = self._sources(count - 1)
            with self.store.make(prepared.key) as folder:
                if leaders_value(folder is not None):
                    assert folder is not None
                    reused = False
                    images = prepared.data.count("train")
                    log.info("%s: %d images", self._place(prepared), images)
                    self._open(prepared.data)
                    self._copy_logs(count - 1, folder)
                    module, shown, fitted = train(
                        prepared,
                        self.config,
                        checkpoints=folder,
                        logs=folder,
                        run=self.folder.name,
                        later=self._images_after(count),
                    )
                    if not is_follower():
                        _, health = self._assess(prepared, module, shown, fitted)
                        self._publish(prepared, folder, records, module, fitted, health)
            leaders_value(None)  # followers continue once the stage is published
        made = self.store.record(prepared.key)
        if not reused:
            return [*records, {**made[-1], "reused": False}]
        log.info("%s: reused from %s", self._place(prepared), self.store.path(prepared.key))
        return [{**record, "reused": True} for record in made]

    def _open(self, data: DomainDataModule) -> None:
        """Log what makes the data doubtful, and decode a set that exceeds the memory."""
        data.log_doubts()
        store = StageStore(self.config.outputs / "images")
        use_image_cache(data, store, fill=not is_follower())

    def _assess(
        self, prepared: PreparedStage, module: ClassifierModule, data: StageData, fitted: Fitted
    ) -> tuple[TestResult, Health]:
        """Load the chosen weights, test them on the validation images, and log their health.

        UserError if the stage did not learn, and its settings require that it does.
        """
        stage = prepared.stage
        module.network.net.load_state_dict(network_state(fitted.best))
        validated, health = assess(module, data, fitted, self.config.trainer)
        if stage.require_learning and not health.learned:
            raise UserError(
                f"stage {stage.name}: {health.line} To use it as it is, set "
                f"++stage.{stage.name}.require_learning=false."
            )
        log.log(logging.INFO if health.learned else logging.WARNING, "  %s", health.line)
        return validated, health

    def _images_after(self, count: int) -> int | None:
        """Return how many images the stages after `count` are trained on, in all their epochs.

        None if one of them searches: it trains several times.
        """
        later = self.stages[count:]
        if any(x.stage.recipe.search_rates for x in later) or any(
            x.stage.transfer and x.stage.transfer.search for x in later
        ):
            return None
        return sum(x.epochs * cast(DomainDataModule, x.data).count("train") for x in later)

    def _place(self, prepared: PreparedStage) -> str:
        return f"stage {prepared.number} of {len(self.stages)}, {prepared.stage.name}"

    def _copy_logs(self, count: int, folder: Path) -> None:
        """Copy the logs of the first `count` stages beside those of the next."""
        if not count or is_follower() or isinstance(self.stages[count - 1].data, Pretrained):
            return
        stored = self.store.path(self.stages[count - 1].key)
        for name in LOG_FOLDERS:
            if (stored / name).is_dir():
                shutil.copytree(stored / name, folder / name, dirs_exist_ok=True)

    def _publish(
        self,
        prepared: PreparedStage,
        folder: Path,
        records: Sequence[dict[str, Any]],
        module: ClassifierModule,
        fitted: Fitted,
        health: Health,
    ) -> None:
        data = cast(DomainDataModule, prepared.data)
        state = {"state_dict": network_state(fitted.best), "hyper_parameters": dict(module.hparams)}
        write_checkpoint(state, folder / "model.ckpt")
        entry = trained_entry(prepared.stage.name, prepared.key, data, fitted, health)
        write_json(
            folder / "stage.json",
            {
                "stages": [*records, entry],
                "classes": list(data.classes),
                "identity": self._identity(prepared.stage, data),
                "versions": versions(),
            },
        )

    def _identity(self, stage: Stage, data: DomainDataModule | Pretrained) -> dict[str, Any]:
        if isinstance(data, Pretrained):
            return data.identity()
        config = self.config
        identity = stage_identity(config, stage, data.identity())
        if stage.is_target:
            variants = data.settings.random_variants if config.test_copies > 1 else {}
            identity["test"] = {"copies": config.test_copies, **variants}
            if config.teacher:
                identity["teacher"] = check_teachers(config, data)
        return identity
