"""How long a stage is trained: epochs, and the least number of optimiser steps."""

import math

from stagetransfer.config.schema import Recipe, Trainer
from stagetransfer.errors import UserError

FEWEST_STEPS = 100


def planned_epochs(recipe: Recipe, settings: Trainer, num_images: int, key: str) -> int:
    """Return the number of epochs of a stage with this number of training images.

    These are `recipe.epochs`, or more if `recipe.min_steps` optimiser steps need more. Training
    stays as it is where Lightning's own limits are set (max_steps, max_time, fast_dev_run).
    UserError if `recipe.min_steps` is null and the epochs have fewer than FEWEST_STEPS steps, or no
    validation would come in an epoch. `key` is the place of the stage in the config, for messages.
    """
    batches = batches_per_epoch(recipe, settings, num_images)
    if settings.fast_dev_run:
        batches = min(int(settings.fast_dev_run), batches)
    interval = settings.val_check_interval
    if isinstance(interval, int) and interval > batches:
        raise UserError(
            f"trainer.val_check_interval={interval}: an epoch of {key} has {batches} batches. Set "
            f"a smaller number, or null"
        )
    epochs = recipe.epochs
    steps = math.ceil(batches / (settings.accumulate_grad_batches or 1))
    limited = settings.max_steps is not None or settings.max_time is not None
    limited = limited or bool(settings.fast_dev_run)
    if recipe.min_steps is not None and not limited:
        epochs = max(epochs, math.ceil(recipe.min_steps / steps))
    elif (total := epochs * steps) < FEWEST_STEPS and not limited:
        raise UserError(
            f"{key}: {epochs} epochs of {num_images} images in batches of "
            f"{recipe.batch_size} are only {total} optimiser steps, too few to learn from. Set "
            f"recipe.min_steps={FEWEST_STEPS * 5} (more epochs), a smaller recipe.batch_size, or "
            "recipe.min_steps=0 to train so shortly all the same"
        )
    every = settings.check_val_every_n_epoch or 1
    if every > epochs or (recipe.monitor == "last" and not limited and epochs % every):
        raise UserError(
            f"trainer.check_val_every_n_epoch={every}: {key} has {epochs} epochs, so the last one "
            f"would not be validated. Set a number that divides {epochs}, or null"
        )
    return epochs


def batches_per_epoch(
    recipe: Recipe, settings: Trainer, num_images: int, split: str = "train"
) -> int:
    """Return the training or validation batches of one epoch on each device.

    UserError if there are none: fewer images than devices, or a share below one batch.
    """
    batches = math.ceil(num_images // settings.devices / recipe.batch_size)
    if not batches:
        raise UserError(
            f"trainer.devices={settings.devices}: there are only {num_images} images in the split "
            f"{split}. Use fewer devices"
        )
    key = "limit_train_batches" if split == "train" else "limit_val_batches"
    limit = getattr(settings, key)
    if limit is None:
        return batches
    limited = int(limit * batches) if isinstance(limit, float) else min(int(limit), batches)
    if limited < 1:
        raise UserError(
            f"trainer.{key}={limit}: of the {batches} batches of the split {split}, these are "
            "none. Set a larger number, or null"
        )
    return limited
