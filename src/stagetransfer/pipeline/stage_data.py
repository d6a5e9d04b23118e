"""The data of a stage, built from its settings."""

from __future__ import annotations

from typing import cast

from stagetransfer.config.instantiate import partial_of
from stagetransfer.config.schema import RunConfig, Stage
from stagetransfer.data import DomainDataModule, Pretrained
from stagetransfer.errors import UserError
from stagetransfer.seeding import derive


def stage_data(config: RunConfig, stage: Stage) -> DomainDataModule | Pretrained:
    """The stage's data module, its files read and checked, or the weights that stand in for it.

    Raises:
        UserError: the data can't be read, or weights stand where a stage must be trained.
    """
    model = config.model
    first, last = stage is config.stages[0], stage is config.stages[-1]
    build = partial_of(stage.domain, f"domain.{stage.name}")
    if build.func is Pretrained:
        if not first or last:
            raise UserError(
                f"domain.{stage.name}.weights: weights can only stand in for the first stage "
                f"of a chain that has another; chain={list(config.chain)}"
            )
        return Pretrained(stage.name, **build.keywords)
    try:
        data = build(
            name=stage.name,
            is_target=last,
            ratio=config.ratio if last else 1.0,
            ratio_by=config.ratio_by if last else "image",
            seed=derive(stage.seed, stage.name, "data"),
            batch_size=stage.recipe.batch_size,
            balanced=stage.recipe.balance == "sampling",
            downsampled=stage.recipe.balance == "downsample",
            input_size=model.input_size,
            mean=tuple(model.mean),
            std=tuple(model.std),
        )
    except TypeError as error:
        raise UserError(f"domain.{stage.name}: {error}") from error
    return cast(DomainDataModule, data)
