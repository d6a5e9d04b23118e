"""The LightningModule of every stage."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, NamedTuple, cast

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from stagetransfer.config.schema import Model
from stagetransfer.data.images import Batch
from stagetransfer.errors import UserError
from stagetransfer.models import LAYERS, AlexNet, Conv2d, initialise
from stagetransfer.training.parameter_groups import EVERY_LAYER, parameter_groups


class FeatureBatch(NamedTuple):
    """B labelled images, as the frozen part of a network returns them."""

    features: Tensor  # (B, F) or (B, C, H, W) float32
    labels: Tensor  # (B,) int64
    rows: Tensor  # (B,) int64, numbers in the domain's samples


AnyBatch = Batch | FeatureBatch
Tested = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


class AlexNetModule(pl.LightningModule):
    """AlexNet, cross-entropy, and an optimiser with rates by layer.

    Args:
        model: the network.
        classes: class names; their number is fc8's width.
        optimizer: a torch optimiser that lacks only its parameters; its `lr` is the rate of a
            layer whose policy says 1, its `weight_decay` that of the weights.
        scheduler: a torch scheduler that lacks only its optimiser; `total_steps` is filled in
            where it has that argument.
        scheduler_interval: "epoch" or "step".
        rates, bias_rate, bias_decay: see `policy.parameter_groups`.
        class_weights: (C,) weights of the loss, or None.
        seed: draws the initial weights.
        channels_last: keep images and filters in that order; it decides nothing but speed.
        winograd: as in `network.Conv2d`; it decides nothing but speed, and rounding.
    """

    def __init__(
        self,
        model: Model,
        classes: Sequence[str],
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        *,
        scheduler_interval: str = "epoch",
        rates: Sequence[Sequence[Any]] = EVERY_LAYER,
        bias_rate: float = 1.0,
        bias_decay: bool = False,
        class_weights: Tensor | None = None,
        seed: int = 0,
        channels_last: bool = True,
        winograd: bool = True,
    ) -> None:
        super().__init__()
        # Plain containers: a checkpoint must be readable without unpickling code.
        self.save_hyperparameters({"model": asdict(model), "classes": list(classes)})
        self.network = build_network(model, len(classes))
        generator = torch.Generator().manual_seed(seed)
        initialise(self.network, model.initialisation, generator=generator)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network.to(memory_format=self.layout)
        for layer in self.network:
            if isinstance(layer, Conv2d):
                layer.winograd = winograd
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.rates = rates
        self.bias_rate = bias_rate
        self.bias_decay = bias_decay
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.validation_loss = MeanMetric()
        self.validation_figures = _figures(len(classes))
        self._fixed = 0  # so many of the network's modules are a fixed function of the image
        self._tested: list[tuple[Tensor, Tensor, Tensor]] = []

    def fix(self, frozen: Sequence[str]) -> None:
        """Makes what lies below the first tuned layer a fixed function of the image.

        No gradient is kept for it and no dropout is drawn within. The dropout right in front of
        the first tuned layer is that layer's own, and goes on.

        Args:
            frozen: the layers that are not tuned.
        """
        modules = list(self.network.named_children())
        end = next(
            i for i, (name, _) in enumerate(modules) if name in LAYERS and name not in frozen
        )
        while end and isinstance(modules[end - 1][1], nn.Dropout):
            end -= 1
        self._fixed = end if frozen else 0

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) to what the fixed part gives, (B, F) or (B, C, H, W)."""
        x = x.contiguous(memory_format=self.layout)
        with torch.no_grad():
            for module in islice(self.network.children(), self._fixed):
                x = module(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) to logits (B, C)."""
        return self._tuned(self.features(x))

    def _tuned(self, x: Tensor) -> Tensor:
        for module in islice(self.network.children(), self._fixed, None):
            x = module(x)
        return x

    def _logits(self, batch: AnyBatch) -> Tensor:
        return (
            self._tuned(batch.features) if isinstance(batch, FeatureBatch) else self(batch.images)
        )

    def on_train_epoch_start(self) -> None:
        """Lightning trains all modules; the fixed part stays as in a test."""
        for module in islice(self.network.children(), self._fixed):
            module.eval()

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """The features of a batch, float32, with channels last: (B, F) or (B, H, W, C)."""
        x = self.features(batch.images).float()
        return x.permute(0, 2, 3, 1) if x.ndim == 4 else x

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of a batch in nats, weighted by class if asked."""
        weights = cast(Tensor | None, self.class_weights)
        loss = F.cross_entropy(self._logits(batch), batch.labels, weight=weights)
        self.log("train/cross_entropy", loss, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> None:
        """Gathers the validation figures; the loss is never weighted here."""
        logits = self._logits(batch).float()
        self.validation_loss.update(F.cross_entropy(logits, batch.labels), len(batch.labels))
        self.validation_figures.update(logits.softmax(1), batch.labels)

    def on_validation_epoch_end(self) -> None:
        """Logs validation/<figure>; a loss that is no number ends the stage with one line."""
        loss = self.validation_loss.compute()
        if not torch.isfinite(loss):
            raise UserError(
                f"training diverged: the validation cross-entropy after epoch "
                f"{self.current_epoch + 1} is {loss.item()}; lower recipe.optimizer.lr"
            )
        self.log("validation/cross_entropy", loss)
        self.log_dict(
            {
                f"validation/{name}": value
                for name, value in self.validation_figures.compute().items()
            }
        )
        self.validation_loss.reset()
        self.validation_figures.reset()

    def on_test_epoch_start(self) -> None:
        """Forgets an earlier test."""
        self._tested.clear()

    def test_step(self, batch: AnyBatch, batch_idx: int) -> None:
        """Keeps what `tested` returns."""
        probabilities = self._logits(batch).double().softmax(1)
        self._tested.append((batch.rows.cpu(), batch.labels.cpu(), probabilities.cpu()))

    def tested(self) -> Tested:
        """Rows (N,), labels (N,) and class probabilities (N, C) of the last test."""
        rows, labels, probabilities = (torch.cat(part).numpy() for part in zip(*self._tested, strict=True))  # noqa: E501  # fmt: skip
        return rows, labels, probabilities

    def configure_optimizers(self) -> Any:
        """The optimiser over all groups of the layer policy, and the scheduler."""
        known = getattr(self.optimizer, "keywords", {})
        groups = parameter_groups(
            self.network,
            lr=float(known["lr"]),
            weight_decay=float(known.get("weight_decay", 0.0)),
            rates=self.rates,
            bias_rate=self.bias_rate,
            bias_decay=self.bias_decay,
        )
        optimizer = self.optimizer(groups)
        if self.scheduler is None:
            return optimizer
        total = {}
        if "total_steps" in inspect.signature(self.scheduler).parameters:
            assert self.trainer.max_epochs is not None
            steps = int(self.trainer.estimated_stepping_batches)
            total["total_steps"] = (
                steps if self.scheduler_interval == "step" else self.trainer.max_epochs
            )
        schedule = {
            "scheduler": self.scheduler(optimizer, **total),
            "interval": self.scheduler_interval,
        }
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def build_network(model: Model, num_classes: int) -> AlexNet:
    """The network that these settings describe."""
    return AlexNet(
        num_classes,
        model.variant,
        groups=model.groups,
        lrn_after_pool=model.lrn_after_pool,
        input_size=model.input_size,
        dropout=model.dropout,
    )


def _figures(num_classes: int) -> MetricCollection:
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "precision": MulticlassPrecision(num_classes, average="macro"),
            "recall": MulticlassRecall(num_classes, average="macro"),
            "f1": MulticlassF1Score(num_classes, average="macro"),
            "auroc": MulticlassAUROC(num_classes, average="macro"),
        }
    )
