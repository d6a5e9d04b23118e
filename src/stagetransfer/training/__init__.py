"""Training of one stage: the LightningModule, the transfer into it, its callbacks."""

from stagetransfer.training.caffe_sgd import CaffeSGD
from stagetransfer.training.feature_cache import (
    FeatureDataModule,
    StageData,
    images_of,
    with_cached_features,
)
from stagetransfer.training.fit import Fitted, evaluate, fit, network_state
from stagetransfer.training.module import AlexNetModule, Tested, build_network
from stagetransfer.training.parameter_groups import rates_by_layer
from stagetransfer.training.schedules import one_cycle
from stagetransfer.training.stage_transfer import StageTransfer, TransferRecord, transfer

__all__ = [
    "AlexNetModule",
    "CaffeSGD",
    "FeatureDataModule",
    "Fitted",
    "StageData",
    "StageTransfer",
    "Tested",
    "TransferRecord",
    "build_network",
    "evaluate",
    "fit",
    "images_of",
    "network_state",
    "one_cycle",
    "rates_by_layer",
    "transfer",
    "with_cached_features",
]
