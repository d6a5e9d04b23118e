"""Training of one stage: the LightningModule, the transfer into it, its callbacks."""

from stagetransfer.training.fit import Fitted, evaluate, fit, network_state, predict_validation
from stagetransfer.training.module import AlexNetModule, build_network
from stagetransfer.training.policy import rates_by_layer
from stagetransfer.training.schedule import one_cycle
from stagetransfer.training.transfer import StageTransfer, TransferRecord, transfer

__all__ = [
    "AlexNetModule",
    "Fitted",
    "StageTransfer",
    "TransferRecord",
    "build_network",
    "evaluate",
    "fit",
    "network_state",
    "one_cycle",
    "predict_validation",
    "rates_by_layer",
    "transfer",
]
