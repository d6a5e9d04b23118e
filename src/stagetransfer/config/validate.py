"""Validation: from the composed config to typed, checked settings. Imports neither torch nor data.

Errors name the key, say what is wrong, and say what to do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from stagetransfer.config.domain_settings import DomainSettings
from stagetransfer.config.schema import (
    Config,
    Model,
    Paths,
    Recipe,
    RunConfig,
    Stage,
    TopLevel,
    Trainer,
    Transfer,
)
from stagetransfer.errors import UserError
from stagetransfer.names import CONDITIONS, LAYERS, METRICS, SCHEMES, VARIANTS

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
T = TypeVar("T")


def validate_config(cfg: DictConfig) -> RunConfig:
    """Check a config and return its typed settings.

    Args:
        cfg: as Hydra composes it, or as a run's config.yaml holds it.

    Raises:
        UserError: a required value is missing, a key is unknown, or a value is of the wrong type or
            impossible.
    """
    chain = _chain(cfg)
    tree = _resolve(cfg, chain)
    _refuse_unknown(tree, Config, "")
    values = _top_level(tree)
    paths = _section(Paths, "paths", tree.get("paths", {}))
    model = _section(Model, "model", tree.get("model", {}))
    trainer = _section(Trainer, "trainer", tree.get("trainer", {}))
    _check_model(model)
    _check_trainer(trainer)
    own = {name: settings or {} for name, settings in values.stage.items() if name in chain}
    stages = tuple(
        _stage(tree, values, name, own.get(name, {}), first=i == 0, last=i == len(chain) - 1)
        for i, name in enumerate(chain)
    )
    _check_devices(trainer, stages[-1].transfer)
    condition = values.condition or CONDITIONS.get(chain, "-".join(chain))
    if not re.fullmatch(r"[A-Za-z0-9_.+-]+", condition):
        raise UserError(
            f"condition={condition!r}: it names a folder. Use only letters, digits and _ . + -"
        )
    return RunConfig(
        condition=condition,
        stages=stages,
        ratio=float(values.ratio),
        seed=values.seed,
        source_seed=values.source_seed,
        ratio_by=values.ratio_by,
        test_copies=values.test_copies,
        force=values.force,
        model=model,
        trainer=trainer,
        callbacks=values.callbacks,
        logger=values.logger,
        outputs=Path(paths.outputs),
        tree={**tree, "stage": own},
    )


def check_folders(config: RunConfig) -> None:
    """Check that the folders of the images exist, before anything heavy is imported.

    Raises:
        UserError: one does not.
    """
    for stage in config.stages:
        root = stage.domain.get("root")
        if root is not None and not Path(str(root)).is_dir():
            raise UserError(
                f"{root}: no such folder. Give the folder of the images as "
                f"domain.{stage.name}.root=..."
            )


def _chain(cfg: DictConfig) -> tuple[str, ...]:
    names = OmegaConf.to_container(cfg.chain) if OmegaConf.is_list(cfg.chain) else cfg.chain
    if not isinstance(names, list) or not names:
        raise UserError("chain: it must name one or more stages, such as chain=[natural,target]")
    for name in names:
        if name not in cfg.domain:
            known = ", ".join(str(key) for key in cfg.domain)
            raise UserError(
                f"chain: the stage {name!r} has no domain; there are {known}. Add one with "
                f"+domain/texture@domain.{name}=folder domain.{name}.root=..."
            )
    if names[-1] in names[:-1]:
        raise UserError(
            f"chain: the target {names[-1]!r} is also a source, so its test would not be fair. "
            "End the chain with another domain"
        )
    return tuple(str(name) for name in names)


def _resolve(cfg: DictConfig, chain: tuple[str, ...]) -> dict[str, Any]:
    """Return the config without interpolations and without domains that no stage uses."""
    cfg = OmegaConf.create(OmegaConf.to_container(cfg))  # type: ignore[assignment]
    for name in set(cfg.get("stage") or {}) - set(cfg.domain):
        raise UserError(f"stage.{name}: no domain has this name. Use one of {', '.join(chain)}")
    for name in set(cfg.domain) - set(chain):
        del cfg.domain[name]
    try:
        tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise _required(error.full_key or "a key") from error
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'config'}: {_first_line(error)}") from error
    return cast(dict[str, Any], tree)


def _top_level(tree: Mapping[str, Any]) -> TopLevel:
    """Return the keys outside of the groups, typed and checked."""
    names = {one.name for one in fields(TopLevel)} - {"domain"}
    plain = {key: value for key, value in tree.items() if key in names}
    values = cast(TopLevel, _merged(TopLevel, [("", plain)]))
    if not 0 < values.ratio <= 1:
        raise UserError(
            f"ratio={values.ratio:g}: it is the share of the training images that is used. Give a "
            "number greater than 0 and at most 1"
        )
    for key in ("seed", "source_seed"):
        if getattr(values, key) < 0:
            raise UserError(f"{key}={getattr(values, key)}: it must be 0 or more")
    _one_of("ratio_by", values.ratio_by, ("image", "group"))
    if values.test_copies < 1:
        raise UserError("test_copies: it must be 1 (each test image as it is) or more")
    return values


def _stage(
    tree: Mapping[str, Any],
    values: TopLevel,
    name: str,
    own: Mapping[str, Any],
    *,
    first: bool,
    last: bool,
) -> Stage:
    key = f"stage.{name}"
    for section in own:
        if section not in ("recipe", "transfer"):
            raise UserError(f"{key}.{section}: a stage has only the sections recipe and transfer")
    recipe = _section(Recipe, "recipe", tree.get("recipe", {}), f"{key}.recipe", own.get("recipe"))
    _check_recipe(recipe)
    transfer = None
    if not first:
        base = dict(tree.get("transfer", {}))
        if not last:  # between sources the whole network is tuned
            base = {"reinitialise": base["reinitialise"]} if "reinitialise" in base else {}
        transfer = _section(Transfer, "transfer", base, f"{key}.transfer", own.get("transfer"))
        _check_transfer(transfer, recipe)
        if transfer.search and not last:
            raise UserError(f"{key}.transfer.search: only the last stage's depth can be searched")
    domain = dict(tree["domain"][name])
    _check_domain(f"domain.{name}", domain)
    return Stage(name, domain, recipe, transfer, values.seed if last else values.source_seed)


def _check_model(model: Model) -> None:
    _one_of("model.variant", model.variant, VARIANTS)
    _one_of("model.initialisation", model.initialisation, SCHEMES)
    for name in ("mean", "std"):
        if len(getattr(model, name)) != 3:
            raise UserError(f"model.{name}: it must be three numbers, one each for R, G and B")


def _check_trainer(trainer: Trainer) -> None:
    _one_of("trainer.precision", trainer.precision, PRECISIONS)
    if trainer.deterministic not in (True, False, "warn"):
        raise UserError(f"trainer.deterministic={trainer.deterministic}: use true, false or warn")


def _check_recipe(recipe: Recipe) -> None:
    for name in ("epochs", "batch_size"):
        if getattr(recipe, name) < 1:
            raise UserError(f"recipe.{name}={getattr(recipe, name)}: it must be 1 or more")
    _one_of("recipe.scheduler_interval", recipe.scheduler_interval, ("epoch", "step"))
    _one_of("recipe.balance", recipe.balance, ("none", "sampling", "downsample", "loss"))
    _one_of("recipe.monitor", recipe.monitor, METRICS)
    if recipe.patience is not None and recipe.patience < 1:
        raise UserError("recipe.patience: it must be 1 epoch or more, or null")
    if "lr" not in recipe.optimizer:
        raise UserError("recipe.optimizer.lr is required: the layers' learning rates build on it")


def _check_transfer(transfer: Transfer, recipe: Recipe) -> None:
    for name in transfer.reinitialise:
        _one_of("transfer.reinitialise", name, LAYERS)
    _one_of("transfer.mode", transfer.mode, ("full", "frozen"))
    for depth in (transfer.tune_from, *transfer.search):
        if depth is not None:
            _check_depth(depth, transfer)
    if transfer.search and transfer.tune_from is not None:
        raise UserError("transfer.search and transfer.tune_from exclude each other. Give only one")
    if len(transfer.frozen_layers()) == len(LAYERS):
        raise UserError(
            "transfer.mode=frozen with an empty transfer.reinitialise trains nothing. Name the "
            "layers of the classifier in transfer.reinitialise"
        )
    if transfer.probe_epochs and not transfer.reinitialise:
        raise UserError("transfer.probe_epochs: it needs layers in transfer.reinitialise to train")
    if not 0 <= transfer.probe_epochs < recipe.epochs:
        raise UserError(
            f"transfer.probe_epochs={transfer.probe_epochs}: it must be 0 or more and less than "
            f"recipe.epochs={recipe.epochs}"
        )
    for rule in transfer.rates:
        pair = isinstance(rule, list) and len(rule) == 2 and isinstance(rule[0], str)
        if not pair or isinstance(rule[1], bool) or not isinstance(rule[1], int | float):
            raise UserError(
                f"transfer.rates: {rule!r} is not a pair [layer pattern, rate]. Write it as in "
                "transfer.rates=[[fc8,10],['.*',1]]"
            )


def _check_depth(depth: str, transfer: Transfer) -> None:
    key = "transfer.search" if transfer.search else "transfer.tune_from"
    _one_of(key, depth, LAYERS)
    if transfer.mode == "frozen":
        raise UserError(f"transfer.mode=frozen and {key} exclude each other. Give only one")
    random_frozen = {*LAYERS[: LAYERS.index(depth)]} & {*transfer.reinitialise}
    if random_frozen:
        names = ", ".join(sorted(random_frozen))
        raise UserError(
            f"{key}={depth} would freeze {names}, which transfer.reinitialise re-initialises. "
            "Shorten that list, or tune from a lower layer"
        )


def _check_devices(trainer: Trainer, transfer: Transfer | None) -> None:
    if transfer and trainer.devices > 1:
        for name in ("probe_epochs", "search"):
            if getattr(transfer, name):
                raise UserError(f"transfer.{name} needs trainer.devices=1")


def _check_domain(key: str, domain: Mapping[str, Any]) -> None:
    """Check the types of the keys that every domain has."""
    names = {one.name for one in fields(DomainSettings)}
    if "layout" not in domain:  # published weights, or a user's own class
        return
    DomainSettings.from_config({name: domain[name] for name in domain if name in names}, key)


def _section(
    schema: type[T],
    key: str,
    base: Mapping[str, Any],
    own_key: str = "",
    own: Mapping[str, Any] | None = None,
) -> T:
    """Return `base`, changed by a stage's `own` settings, as an instance of `schema`."""
    return cast(T, _merged(schema, [(key, base), (own_key, own or {})]))


def _merged(schema: type, parts: list[tuple[str, Mapping[str, Any]]]) -> Any:
    """Merge the parts, each with the key under which it stands, into the schema's types.

    A part that names another `_target_` replaces the keywords of the one before.
    """
    result = OmegaConf.structured(schema)
    for key, part in parts:
        _refuse_unknown(part, schema, key)
        for name, value in part.items():
            before = OmegaConf.select(result, name, throw_on_missing=False)
            target = value.get("_target_") if isinstance(value, Mapping) else None
            if target and isinstance(before, DictConfig) and target != before.get("_target_"):
                result[name] = {}
        try:
            result = OmegaConf.merge(result, dict(part))
        except (ValidationError, ConfigKeyError) as error:
            name = ".".join(filter(None, (key, str(error.full_key))))
            raise UserError(f"{name}: {_first_line(error)}") from error
    for name in (one.name for one in fields(schema)):
        if OmegaConf.is_missing(result, name):
            raise _required(f"{parts[0][0]}.{name}")
    return OmegaConf.to_object(result)


def _refuse_unknown(part: Mapping[str, Any], schema: type, key: str) -> None:
    names = [one.name for one in fields(schema)]
    for name in part:
        if name not in names and name != "hydra":
            near = difflib.get_close_matches(str(name), names, 1)
            hint = f"Did you mean {near[0]}?" if near else f"The keys are {', '.join(names)}"
            raise UserError(f"{'.'.join(filter(None, (key, str(name))))}: no such key. {hint}")


def _required(key: str) -> UserError:
    return UserError(f"{key} is required: give it as {key}=...")


def _one_of(key: str, value: str, legal: tuple[str, ...]) -> None:
    if value not in legal:
        raise UserError(f"{key}={value}: it must be one of {', '.join(legal)}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
