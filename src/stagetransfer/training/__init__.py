"""Training of one stage: the LightningModule, the transfer from the stage before, the callbacks."""

from stagetransfer.training.callbacks import ScaledStart, SeedEpoch
from stagetransfer.training.carry_or_reinitialise import StageTransfer, TransferRecord
from stagetransfer.training.feature_cache import StageData, images_of, with_cached_features
from stagetransfer.training.fit import Fitted, evaluate, fit, network_state, write_checkpoint
from stagetransfer.training.health import Health, assess
from stagetransfer.training.image_cache import use_image_cache
from stagetransfer.training.last_checkpoint import set_aside_damaged
from stagetransfer.training.length import planned_epochs
from stagetransfer.training.module import ClassifierModule, TestResult
from stagetransfer.training.range_test import range_test
from stagetransfer.training.schedules import CaffeSGD, warmup_cosine
from stagetransfer.training.tuning import (
    block_rates,
    check_transfer,
    frozen_blocks,
    new_blocks,
    searched_blocks,
)
from stagetransfer.training.watch_losses import Losses

__all__ = [
    "CaffeSGD", "ClassifierModule", "Fitted", "Health", "Losses", "ScaledStart", "SeedEpoch",
    "StageData", "StageTransfer", "TestResult", "TransferRecord", "assess", "block_rates",
    "check_transfer", "evaluate", "fit", "frozen_blocks", "images_of", "network_state",
    "new_blocks", "planned_epochs", "range_test", "searched_blocks", "set_aside_damaged",
    "use_image_cache", "warmup_cosine", "with_cached_features", "write_checkpoint",
]  # fmt: skip
