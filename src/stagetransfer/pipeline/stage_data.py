"""The data of a stage, built from its settings and read."""

import inspect

from stagetransfer.config.instantiate import partial_of
from stagetransfer.config.schema import RunConfig, Stage
from stagetransfer.data import DomainDataModule, Pretrained, StageSettings
from stagetransfer.errors import UserError
from stagetransfer.seeding import derive


def stage_data(config: RunConfig, stage: Stage) -> DomainDataModule | Pretrained:
    """Return the stage's data module, read and checked, or the weights that replace the stage.

    UserError if the data cannot be read, or weights are given for a stage that must be trained.
    """
    key = f"domain.{stage.name}"
    model = config.model
    first, last = stage is config.stages[0], stage is config.stages[-1]
    target = stage.is_target
    build = partial_of(stage.domain, key)
    if build.func is Pretrained:
        if not first or last:
            raise UserError(
                f"{key}.weights: weights can only replace the first stage of a chain that has "
                f"another stage; chain={list(config.chain)}"
            )
        return Pretrained(stage.name, **build.keywords)
    settings = StageSettings(
        name=stage.name,
        is_target=target,
        ratio=config.ratio if target else 1.0,
        ratio_by=config.ratio_by if target else "image",
        seed=derive(stage.seed, stage.name, "data"),
        batch_size=stage.recipe.batch_size,
        balanced=stage.recipe.balance == "sampling",
        downsampled=stage.recipe.balance == "downsample",
        input_size=model.input_size,
        mean=tuple(model.mean),
        std=tuple(model.std),
    )
    try:
        inspect.signature(build).bind(stage=settings)
    except TypeError as error:
        raise UserError(f"{key}: {stage.domain['_target_']}: {error}") from error
    data: DomainDataModule = build(stage=settings)
    return data.read()
