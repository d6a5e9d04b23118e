"""From the composed config to typed, checked settings. Imports neither torch nor data."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from stagetransfer.config.domain_settings import checked_domain
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
from stagetransfer.config.typed import as_boolean, refuse_nested, refuse_unknown, required, typed
from stagetransfer.errors import UserError, first_line
from stagetransfer.files import check_can_be_folder
from stagetransfer.names import SCHEMES, condition_of, is_folder_name

# A chain that ends with one of these has no target: its stages are trained and stored.
SOURCES = ("stagetransfer.data.NaturalDataModule", "stagetransfer.data.TextureDataModule")
# Keys of a recipe that apply to the target stage alone.
SEARCHED = {"search_rates", "search_epochs"}
# Arguments of torchvision's and timm's networks with which these download or unpickle weights.
LOADING = {
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "weights",
    "weights_backbone",
}  # fmt: skip


def validate_config(cfg: DictConfig) -> RunConfig:
    """Check a config, as Hydra composes it or as a run's config.yaml holds it.

    UserError if a key is unknown or has no value, or a value is of the wrong type or impossible.
    """
    chain = _chain(cfg)
    tree = _resolve(cfg, chain)
    refuse_unknown(tree, Config, "")
    refuse_nested(tree)
    values = _top_level(tree)
    model = typed(Model, ("model", tree.get("model", {})))
    trainer = typed(Trainer, ("trainer", tree.get("trainer", {})))
    paths = typed(Paths, ("paths", tree.get("paths", {})))
    _check_model(model)
    if trainer.limit_test_batches is not None:
        raise UserError(
            "trainer.limit_test_batches: the test set is always tested whole. Set it to null; "
            "trainer.fast_dev_run=true tries everything on one batch"
        )
    tree["trainer"] = asdict(trainer)
    for name, settings in values.stage.items():
        if not isinstance(settings, Mapping | None):
            raise UserError(
                f"stage.{name}={settings}: give a key below it, as in stage.{name}.recipe"
            )
    own = {name: settings or {} for name, settings in values.stage.items() if name in chain}
    stages = tuple(
        _stage(tree, values, chain, place, own.get(name, {})) for place, name in enumerate(chain)
    )
    transfer = stages[-1].transfer
    on_one_device = {
        "transfer.probe_epochs": any(one.transfer and one.transfer.probe_epochs for one in stages),
        "transfer.search": transfer and transfer.search,
        "trainer.checkpoint_every_minutes": trainer.checkpoint_every_minutes,
        "recipe.search_rates": stages[-1].recipe.search_rates,
        "recipe.optimizer.lr=auto": any(one.recipe.optimizer["lr"] == "auto" for one in stages),
    }
    for key, is_set in on_one_device.items():
        if is_set and trainer.devices > 1:
            raise UserError(f"{key} needs trainer.devices=1")
    condition = values.condition or condition_of(chain)
    for key, name in [("condition", condition), *(("chain", name) for name in chain)]:
        if not is_folder_name(name):
            raise UserError(
                f"{key}={name!r}: it names a folder. Use up to 100 letters, digits and _ . + -"
            )
    return RunConfig(
        condition=condition,
        stages=stages,
        ratio=float(values.ratio),
        seed=values.seed,
        source_seed=values.source_seed,
        ratio_by=values.ratio_by,
        test_copies=values.test_copies,
        teacher=tuple(values.teacher),
        force=values.force,
        keep=values.keep,
        model=model,
        trainer=trainer,
        callbacks=values.callbacks,
        logger=values.logger,
        outputs=Path(paths.outputs),
        tree={**tree, "stage": own},
    )


def check_folders(config: RunConfig) -> None:
    """Raise UserError if images have no folder, or results can have none, before heavy imports."""
    check_can_be_folder(str(config.tree["paths"]["outputs"]), "paths.outputs")
    for stage in config.stages:
        root = stage.domain.get("root")
        if root is not None and not os.path.isdir(str(root)):
            raise UserError(
                f"{root}: no such folder. Give the folder of the images as "
                f"domain.{stage.name}.root=..."
            )


def _chain(cfg: DictConfig) -> tuple[str, ...]:
    for key in ("chain", "domain", "stage"):
        try:
            group = cfg.get(key) or {}
        except OmegaConfBaseException as error:
            raise UserError(f"{key}: {first_line(error)}") from error
        if key != "chain" and not isinstance(group, Mapping):
            raise UserError(f"{key}={group}: it must hold one entry per name. Remove it.")
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
        raise required((error.full_key or "a key").partition("[")[0]) from error
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'config'}: {first_line(error)}") from error
    return cast(dict[str, Any], tree)


def _top_level(tree: Mapping[str, Any]) -> TopLevel:
    """Return the keys outside of the groups."""
    names = {one.name for one in fields(TopLevel)} - {"domain"}
    values = typed(TopLevel, ("", {key: value for key, value in tree.items() if key in names}))
    if values.condition == "distil" and not values.teacher:
        raise UserError("teacher=[]: the condition distil learns from runs. Name their folders")
    if not all(isinstance(path, str) for path in values.teacher):
        raise UserError(f"teacher={values.teacher}: give a list of run folders, teacher=[A,B]")
    return values


def _stage(
    tree: Mapping[str, Any],
    values: TopLevel,
    chain: tuple[str, ...],
    place: int,
    own: Mapping[str, Any],
) -> Stage:
    name, first, last = chain[place], place == 0, place == len(chain) - 1
    key = f"stage.{name}"
    for section in own:
        if section not in ("recipe", "transfer", "require_learning"):
            raise UserError(
                f"{key}.{section}: a stage has only recipe, transfer and require_learning"
            )
        if section != "require_learning" and not isinstance(own[section], Mapping | None):
            raise UserError(f"{key}.{section}={own[section]}: give its keys, one by one")
    if not isinstance(tree["domain"][name], Mapping):
        raise UserError(f"domain.{name}={tree['domain'][name]}: it must have keys. Remove it.")
    domain = tree["domain"][name] = checked_domain(tree["domain"][name], f"domain.{name}")
    is_target = last and domain.get("_target_") not in SOURCES
    # Of the few batches of fast_dev_run, no stage can learn.
    required = not is_target and not tree["trainer"]["fast_dev_run"]
    require = as_boolean(own.get("require_learning", required), f"{key}.require_learning")
    parts = {
        section: (f"{key}.{section}", own.get(section) or {}) for section in ("recipe", "transfer")
    }
    base = tree.get("recipe", {})
    if not is_target:
        for search in SEARCHED & parts["recipe"][1].keys():
            raise UserError(f"{key}.recipe.{search}: only the target's recipe can be searched")
        base = {name: base[name] for name in base if name not in SEARCHED}
    recipe = typed(Recipe, ("recipe", base), parts["recipe"])
    _check_recipe(recipe)
    base = tree.get("transfer", {})
    if not (first or is_target):  # between sources the whole network is tuned
        base = {name: base[name] for name in ("reinitialise",) if name in base}
    transfer = typed(Transfer, ("transfer", base), parts["transfer"])
    if not first:  # of the first stage it has no effect
        _check_transfer(transfer, recipe)
        if transfer.search and not is_target:
            raise UserError(f"{key}.transfer.search: only the last stage's depth can be searched")
    seed = values.seed if is_target else values.source_seed
    return Stage(name, domain, recipe, None if first else transfer, seed, is_target, require)


def _check_model(model: Model) -> None:
    own = model.library == "alexnet"
    schemes = SCHEMES if own else ("own", "lsuv")
    if model.initialisation not in schemes:
        raise UserError(
            f"model.initialisation={model.initialisation}: it must be one of {', '.join(schemes)}"
        )
    if not own and not model.name:
        raise required("model.name")
    for name, default in (("variant", "paper"), ("groups", None), ("lrn_after_pool", None)):
        if not own and (value := getattr(model, name)) != default:
            raise UserError(f"model.{name}={value}: it is of AlexNet (model=paper). Leave it out")
    if own and (model.name or model.options):
        raise UserError(
            "model.name, model.options: they are of the networks of libraries. Choose one with "
            "model=timm or model=torchvision_zoo"
        )
    for name in sorted(LOADING & model.options.keys()):
        raise UserError(
            f"model.options.{name}: it may load weights, which no stage would record, or run code. "
            "Use domain/natural=pretrained with domain.natural.weights"
        )
    for name in ("mean", "std"):
        if len(getattr(model, name)) != 3:
            raise UserError(f"model.{name}: it must be three numbers, one each for R, G and B")


def _check_recipe(recipe: Recipe) -> None:
    if recipe.patience is not None and recipe.monitor == "last":
        raise UserError("recipe.patience: it needs a figure in recipe.monitor instead of last")
    if "lr" not in recipe.optimizer:
        raise UserError("recipe.optimizer.lr is required: the layers' learning rates build on it")
    for name, least in (("lr", math.ulp(0)), ("weight_decay", 0)):
        value = recipe.optimizer.get(name, least)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if (name, value) != ("lr", "auto") and not (number and least <= value < math.inf):
            more = "greater than 0, or auto" if name == "lr" else "of 0 or more"
            raise UserError(f"recipe.optimizer.{name}={value}: it must be a number {more}")
    _check_search(recipe.search_rates, recipe.search_epochs)


def _check_search(rates: list[float], epochs: list[int]) -> None:
    if bool(rates) != bool(epochs):
        given, lacking = ("rates", "epochs") if rates else ("epochs", "rates")
        raise UserError(f"recipe.search_{given}: it needs recipe.search_{lacking} too. Give both")
    if len({*rates}) < len(rates) or any(not 0 < rate < math.inf for rate in rates):
        raise UserError(f"recipe.search_rates={rates}: give different numbers greater than 0")
    if epochs != sorted({*epochs}) or min(epochs, default=1) < 1:
        raise UserError(f"recipe.search_epochs={epochs}: give increasing numbers, 1 or more")


def _check_transfer(transfer: Transfer, recipe: Recipe) -> None:
    names = transfer.search if isinstance(transfer.search, list) else [None]
    if transfer.search != "all" and not all(isinstance(one, str) for one in names):
        raise UserError(f"transfer.search={transfer.search}: give a list of blocks, or all")
    for key in ("tune_from", "search"):
        if getattr(transfer, key) and transfer.mode == "frozen":
            raise UserError(f"transfer.mode=frozen and transfer.{key} exclude each other")
    for key, is_set in (
        ("transfer.tune_from", transfer.tune_from is not None),
        ("recipe.search_rates", recipe.search_rates),
    ):
        if transfer.search and is_set:
            raise UserError(f"transfer.search and {key} exclude each other. Give only one")
    if transfer.rates and transfer.rate_decay is not None:
        raise UserError("transfer.rates and transfer.rate_decay exclude each other. Give only one")
    if transfer.mode == "frozen" and transfer.reinitialise == []:
        raise UserError(
            "transfer.mode=frozen with an empty transfer.reinitialise trains nothing. Name the "
            "blocks of the classifier in transfer.reinitialise, or null for the network's own"
        )
    if transfer.probe_epochs and transfer.reinitialise == []:
        raise UserError("transfer.probe_epochs: it needs blocks in transfer.reinitialise to train")
    name, epochs = "epochs", recipe.epochs
    if recipe.search_epochs:
        name, epochs = "search_epochs", recipe.search_epochs[0]
    if not 0 <= transfer.probe_epochs < epochs:
        raise UserError(
            f"transfer.probe_epochs={transfer.probe_epochs}: it must be 0 or more and less than "
            f"recipe.{name}={epochs}"
        )
    for rule in transfer.rates:
        match rule:
            case [str(), int() | float() as rate] if not isinstance(rate, bool) and rate >= 0:
                continue
        raise UserError(
            f"transfer.rates: {rule!r} is not a pair [block pattern, rate]. Write it as in "
            "transfer.rates=[[head,10],['.*',1]]"
        )
