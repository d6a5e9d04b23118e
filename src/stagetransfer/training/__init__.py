"""Training of one stage: the LightningModule, the transfer from the stage before, the callbacks."""

from stagetransfer.training.caffe_sgd import CaffeSGD
from stagetransfer.training.carry_or_reinitialise import StageTransfer, TransferRecord
from stagetransfer.training.feature_cache import (
    FeatureDataModule,
    StageData,
    images_of,
    with_cached_features,
)
from stagetransfer.training.fit import Fitted, evaluate, fit, network_state
from stagetransfer.training.module import (
    ClassifierModule,
    OptimizerSettings,
    TestResult,
    build_network,
)
from stagetransfer.training.parameter_groups import parameter_groups, rates_by_layer
from stagetransfer.training.schedules import one_cycle

__all__ = [
    "CaffeSGD",
    "ClassifierModule",
    "FeatureDataModule",
    "Fitted",
    "OptimizerSettings",
    "StageData",
    "StageTransfer",
    "TestResult",
    "TransferRecord",
    "build_network",
    "evaluate",
    "fit",
    "images_of",
    "network_state",
    "one_cycle",
    "parameter_groups",
    "rates_by_layer",
    "with_cached_features",
]
