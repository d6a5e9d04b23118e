"""From the composed config to typed, checked settings: the only place where keys are read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from stagetransfer.config.schema import Model, Recipe, RunConfig, Stage, Trainer, Transfer
from stagetransfer.errors import UserError
from stagetransfer.names import CONDITIONS, LAYERS, METRICS, SCHEMES, VARIANTS

# Knobs that the config.yaml of an older run does not have.
LATER: dict[str, Any] = {"ratio_by": "image", "test_copies": 1, "callbacks": {}}


def validate_config(cfg: DictConfig) -> RunConfig:
    """Checks the composed config and turns it into typed settings.

    Raises:
        UserError: a required value is missing, of the wrong type, or impossible.
    """
    chain = _chain(cfg)
    used = {f"domain.{name}" for name in chain}
    tree = LATER | _resolve(cfg, used)
    model = _typed(Model, tree["model"], "model")
    _one_of("model.variant", model.variant, VARIANTS)
    _one_of("model.initialisation", model.initialisation, SCHEMES)
    for key in ("mean", "std"):
        if len(getattr(model, key)) != 3:
            raise UserError(f"model.{key} must be three numbers, one for each of R, G and B")
    ratio = _number("ratio", tree["ratio"])
    if not 0 < ratio <= 1:
        raise UserError(f"ratio={ratio:g} is not a share of the training images: 0 < ratio <= 1")
    _one_of("ratio_by", tree["ratio_by"], ("image", "group"))
    copies = _integer("test_copies", tree["test_copies"])
    if copies < 1:
        raise UserError("test_copies must be 1 (the test image alone) or more")
    for name in tree["stage"]:
        if name not in cfg.domain:  # one that this chain leaves out is legal: a sweep has others
            raise UserError(f"stage.{name}: no domain has this name")
    tree["stage"] = {name: own for name, own in tree["stage"].items() if name in chain}
    seed = _integer("seed", tree["seed"])
    source_seed = _integer("source_seed", tree["source_seed"])
    stages = tuple(
        _stage(tree, name, first=i == 0, last=i == len(chain) - 1, seeds=(source_seed, seed))
        for i, name in enumerate(chain)
    )
    trainer = _typed(Trainer, tree["trainer"], "trainer")
    _check_devices(trainer, stages[-1].transfer)
    condition = tree["condition"] or CONDITIONS.get(chain, "-".join(chain))
    if not re.fullmatch(r"[A-Za-z0-9_.+-]+", str(condition)):
        raise UserError(f"condition={condition!r} names a folder: letters, digits and _ . + - only")
    return RunConfig(
        condition=str(condition),
        stages=stages,
        ratio=ratio,
        seed=seed,
        source_seed=source_seed,
        ratio_by=str(tree["ratio_by"]),
        test_copies=copies,
        force=bool(tree["force"]),
        model=model,
        trainer=trainer,
        outputs=Path(tree["paths"]["outputs"]),
        callbacks=dict(tree["callbacks"]),
        tree=tree,
    )


def _chain(cfg: DictConfig) -> tuple[str, ...]:
    names = OmegaConf.to_container(cfg.chain) if OmegaConf.is_list(cfg.chain) else cfg.chain
    if not isinstance(names, list) or not names:
        raise UserError("chain must be a list of one or more stages, as chain=[natural,target]")
    for name in names:
        if name not in cfg.domain:
            known = ", ".join(str(key) for key in cfg.domain)
            raise UserError(
                f"chain: the stage {name!r} has no domain (there are {known}); add one with "
                f"+domain/texture@domain.{name}=folder domain.{name}.root=..."
            )
    if names[-1] in names[:-1]:
        raise UserError(
            f"chain: the last stage {names[-1]!r} stands earlier too: its test would not be fair"
        )
    return tuple(str(name) for name in names)


def _resolve(cfg: DictConfig, used_domains: set[str]) -> dict[str, Any]:
    """The config without interpolations; domains that no stage names are left out."""
    cfg = OmegaConf.create(OmegaConf.to_container(cfg))  # type: ignore[assignment]
    unused = [name for name in cfg.domain if f"domain.{name}" not in used_domains]
    for name in unused:
        del cfg.domain[name]
    try:
        tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key or "a key"
        raise UserError(f"{key} is required: give it as {key}=...") from error
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'config'}: {_first_line(error)}") from error
    return cast(dict[str, Any], tree)


def _stage(
    tree: Mapping[str, Any], name: str, *, first: bool, last: bool, seeds: tuple[int, int]
) -> Stage:
    own = tree["stage"].get(name) or {}
    for key in own:
        if key not in ("recipe", "transfer"):
            raise UserError(f"stage.{name}.{key} is no knob of a stage; there are recipe, transfer")
    recipe = _typed(Recipe, tree["recipe"], "recipe", own.get("recipe"), f"stage.{name}.recipe")
    if recipe.epochs < 1 or recipe.batch_size < 1:
        raise UserError("recipe.epochs and recipe.batch_size must be 1 or more")
    _one_of("recipe.scheduler_interval", recipe.scheduler_interval, ("epoch", "step"))
    _one_of("recipe.balance", recipe.balance, ("none", "sampling", "downsample", "loss"))
    _one_of("recipe.monitor", recipe.monitor, METRICS)
    if recipe.patience is not None and recipe.patience < 1:
        raise UserError("recipe.patience must be 1 epoch or more, or null")
    if "lr" not in recipe.optimizer:
        raise UserError("recipe.optimizer.lr is required: the rates of the layers are built on it")
    transfer = None
    if not first:
        base = dict(tree["transfer"])
        if not last:  # a source of the next stage: the same cut, the whole network tuned
            base = {"reinitialise": base["reinitialise"]}
        transfer = _typed(Transfer, base, "transfer", own.get("transfer"), f"stage.{name}.transfer")
        _check_transfer(transfer)
        if not 0 <= transfer.probe_epochs < recipe.epochs:
            raise UserError(
                f"transfer.probe_epochs={transfer.probe_epochs} must be 0 or more and less than "
                f"recipe.epochs={recipe.epochs}"
            )
        if transfer.search and not last:
            raise UserError(f"stage.{name}.transfer.search: only the last stage can be searched")
    return Stage(name, dict(tree["domain"][name]), recipe, transfer, seeds[1 if last else 0])


def _check_transfer(transfer: Transfer) -> None:
    for name in transfer.reinitialise:
        _one_of("transfer.reinitialise", name, LAYERS)
    _one_of("transfer.mode", transfer.mode, ("full", "frozen"))
    for depth in (transfer.tune_from, *transfer.search):
        if depth is not None:
            _check_depth(depth, transfer)
    if transfer.search and transfer.tune_from is not None:
        raise UserError("transfer.search and transfer.tune_from exclude each other")
    if len(transfer.frozen_layers()) == len(LAYERS):
        raise UserError("transfer.mode=frozen with an empty transfer.reinitialise trains nothing")
    if transfer.probe_epochs and not transfer.reinitialise:
        raise UserError("transfer.probe_epochs needs layers in transfer.reinitialise to probe with")
    for rule in transfer.rates:
        if (
            not isinstance(rule, list)
            or len(rule) != 2
            or not isinstance(rule[0], str)
            or isinstance(rule[1], bool)
            or not isinstance(rule[1], int | float)
        ):
            raise UserError(f"transfer.rates: {rule!r} is not a pair [layer pattern, rate]")


def _check_devices(trainer: Trainer, transfer: Transfer | None) -> None:
    if transfer and trainer.devices > 1:
        for knob in ("probe_epochs", "search"):
            if getattr(transfer, knob):
                raise UserError(f"transfer.{knob} needs trainer.devices=1")


def _check_depth(depth: str, transfer: Transfer) -> None:
    key = "transfer.search" if transfer.search else "transfer.tune_from"
    _one_of(key, depth, LAYERS)
    if transfer.mode == "frozen":
        raise UserError(f"transfer.mode=frozen and {key} exclude each other")
    random_frozen = {*LAYERS[: LAYERS.index(depth)]} & {*transfer.reinitialise}
    if random_frozen:
        names = ", ".join(sorted(random_frozen))
        raise UserError(
            f"{key}={depth} would freeze {names}, which transfer.reinitialise makes anew; "
            f"shorten that list or tune from lower down"
        )


T = TypeVar("T")


def _typed(
    schema: type[T],
    base: Mapping[str, Any],
    key: str,
    override: Mapping[str, Any] | None = None,
    override_key: str = "",
) -> T:
    """`base`, changed by `override`, as an instance of `schema`; types and names are checked.

    What the override builds with another `_target_` takes no argument of the one it replaces.
    """
    result = OmegaConf.structured(schema)
    for part, where in ((base, key), (override or {}, override_key)):
        unknown = [str(name) for name in part if name not in schema.__dataclass_fields__]  # type: ignore[attr-defined]
        if unknown:
            near = difflib.get_close_matches(unknown[0], schema.__dataclass_fields__, 1)  # type: ignore[attr-defined]
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{where}.{unknown[0]} is no known key{hint}")
        for name, value in part.items():
            target = value.get("_target_") if isinstance(value, Mapping) else None
            if target and target != (base.get(name) or {}).get("_target_"):
                result[name] = {}
        try:
            result = OmegaConf.merge(result, dict(part))
        except OmegaConfBaseException as error:
            raise UserError(f"{where}.{error.full_key}: {_first_line(error)}") from error
    try:
        return cast(T, OmegaConf.to_object(result))
    except MissingMandatoryValue as error:
        raise UserError(f"{key}.{error.full_key} is required: give it a value") from error


def _one_of(key: str, value: str, legal: tuple[str, ...]) -> None:
    if value not in legal:
        raise UserError(f"{key}={value} is none of {', '.join(legal)}")


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{key}={value!r} is not a number")
    return float(value)


def _integer(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"{key}={value!r} is not a whole number, 0 or more")
    return value


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
