"""The LightningModule that trains, validates and tests the network of every stage."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, cast

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
    MulticlassStatScores,
)

from stagetransfer.config.instantiate import partial_of
from stagetransfer.config.schema import Model, Recipe, Transfer
from stagetransfer.data.images import Batch
from stagetransfer.models import Backbone, FrozenPrefix, accelerate, build_backbone, fixed_modules
from stagetransfer.training.parameter_groups import base_rate, parameter_groups
from stagetransfer.training.tuning import block_rates


class FeatureBatch(NamedTuple):
    """B labelled images, as `FrozenPrefix.features` returns them."""

    features: Tensor  # (B, F) float32
    labels: Tensor  # (B,) int64
    rows: Tensor  # (B,) int64, numbers in the domain's samples


AnyBatch = Batch | FeatureBatch
TestResult = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Rows (N,), labels (N,) and class probabilities (N, C) of the images of a test."""


class ClassifierModule(pl.LightningModule):
    """A classification network, its loss, its metrics and its optimiser.

    A subclass can override three small steps: `configure_network`, `loss`, `configure_metrics`.

    Args:
        recipe: its optimiser, schedule, gradient_clip_norm and label_smoothing are used.
        transfer: gives each block its learning rate; None: all have the same.
        class_weights: (C,) weights of the training loss; None: all classes count alike.
        seed: decides the initial weights.
        channels_last: whether to store images and filters channels-last. Changes only the speed and
            the rounding.
        winograd: see `accelerate`. Changes only the speed and the rounding.
    """

    def __init__(
        self,
        model: Model,
        classes: Sequence[str],
        recipe: Recipe,
        transfer: Transfer | None = None,
        *,
        class_weights: Tensor | None = None,
        seed: int = 0,
        channels_last: bool = True,
        winograd: bool = True,
    ) -> None:
        super().__init__()
        # Plain containers: a checkpoint must be readable without unpickling code.
        self.save_hyperparameters({"model": asdict(model), "classes": list(classes)})
        self.network = self.configure_network(model, len(classes), seed)
        accelerate(self.network, winograd=winograd)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network.to(memory_format=self.memory_format)
        self.recipe, self.transfer = recipe, transfer
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.validation_loss = MeanMetric()
        self.validation_metrics = self.configure_metrics(len(classes))
        self.validation_labels = MulticlassStatScores(len(classes), average="none")
        self._frozen: tuple[str, ...] = ()  # blocks that are not trained
        self._fixed: list[str] = []  # modules of the network that stay in eval mode
        self._prefix: tuple[torch.device, FrozenPrefix] | None = None
        self._features_dtype: torch.dtype | None = None  # known after the first batch
        self._tested: list[tuple[Tensor, Tensor, Tensor]] = []
        self.teacher: Callable[[Tensor], Tensor] | None = None  # images to probabilities (B, C)

    def configure_network(self, model: Model, num_classes: int, seed: int) -> Backbone:
        """Return the network with its initial weights."""
        network = build_backbone(model, num_classes)
        network.initialise(model.initialisation, seed)
        return network

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the training loss of logits (B, C) and labels (B,): the cross-entropy in nats.

        With a teacher, its probabilities (B, C) take the place of the labels.
        """
        weights = cast(Tensor | None, self.class_weights)
        smoothing = self.recipe.label_smoothing
        return F.cross_entropy(logits, labels, weights, label_smoothing=smoothing)

    def configure_metrics(self, num_classes: int) -> MetricCollection:
        """Return the validation metrics besides the cross-entropy, computed on probabilities.

        A metric with one value per class is averaged over the classes that have images.
        """
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(num_classes, average="micro"),
                "precision": MulticlassPrecision(num_classes, average="none"),
                "recall": MulticlassRecall(num_classes, average="none"),
                "f1": MulticlassF1Score(num_classes, average="none"),
                "auroc": MulticlassAUROC(num_classes, average="none"),
            }
        )

    def set_frozen_blocks(self, frozen: Sequence[str]) -> None:
        """Treat blocks as fixed: no gradients, no dropout, and buffers that do not change."""
        self._frozen = tuple(frozen)
        self._fixed = fixed_modules(self.network, frozen)
        self._prefix = self._features_dtype = None
        self.on_train_epoch_start()

    @property
    def prefix(self) -> FrozenPrefix:
        """The part of the network that no training changes, and the rest; `NoSplit` if none."""
        device = next(self.network.parameters()).device
        if self._prefix is None or self._prefix[0] != device:  # its buffers stay on their device
            tuned = [block for block in self.network.blocks if block not in self._frozen]
            self._prefix = device, FrozenPrefix(self.network, tuned)
        return self._prefix[1]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, C) of images (B, 3, S, S)."""
        return self.network(images.contiguous(memory_format=self.memory_format))  # type: ignore[no-any-return]

    def _logits(self, batch: AnyBatch) -> Tensor:
        if not isinstance(batch, FeatureBatch):
            return self(batch.images)  # type: ignore[no-any-return]
        # Stored features are float32. Dropout draws another mask for another type, so they get the
        # type of the prefix's output in this precision.
        if self._features_dtype is None:
            self._features_dtype = self.prefix.features(self.blank_images(1)).dtype
        return self.prefix.rest(batch.features.to(self._features_dtype), training=self.training)

    def blank_images(self, count: int) -> Tensor:
        """Return images (count, 3, S, S) of zeros, on the network's device."""
        size, device = self.network.input.size, next(self.network.parameters()).device
        images = torch.zeros(count, 3, size, size, device=device)
        return images.contiguous(memory_format=self.memory_format)

    def on_train_start(self) -> None:
        """Do what Lightning leaves out when it resumes a training within an epoch."""
        self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Put the fixed modules back into eval mode: Lightning sets all to training mode."""
        for name in self._fixed:
            self.network.net.get_submodule(name).training = False

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the features of a batch, (B, F) float32; see `FrozenPrefix.features`."""
        images = batch.images.contiguous(memory_format=self.memory_format)
        return self.prefix.features(images).float()

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Tensor:
        labels = batch.labels
        if self.teacher is not None:
            assert isinstance(batch, Batch)  # features are not cached for it
            labels = self.teacher(batch.images)
        loss = self.loss(self._logits(batch), labels)
        self.log("train/cross_entropy", loss, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> None:
        """Update the validation metrics. Class weights do not apply here."""
        logits = self._logits(batch).float()
        self.validation_loss.update(F.cross_entropy(logits, batch.labels), len(batch.labels))
        self.validation_metrics.update(logits.softmax(1), batch.labels)
        self.validation_labels.update(logits, batch.labels)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        metrics = {"cross_entropy": self.validation_loss.compute()}
        occurs = self.validation_labels.compute()[:, -1] > 0
        with warnings.catch_warnings():
            # torchmetrics warns of classes without images, whose values do not count here
            warnings.simplefilter("ignore", UserWarning)
            computed = self.validation_metrics.compute()
        for name, values in computed.items():
            metrics[name] = values[occurs].mean() if values.shape == occurs.shape else values
        if "auroc" in metrics and occurs.sum() < 2:
            metrics["auroc"] = torch.full_like(metrics["auroc"], torch.nan)
        self.log_dict({f"validation/{name}": value for name, value in metrics.items()})
        for kept in (self.validation_loss, self.validation_metrics, self.validation_labels):
            kept.reset()

    def on_test_epoch_start(self) -> None:
        self._tested.clear()

    def test_step(self, batch: AnyBatch, batch_idx: int) -> None:
        probabilities = self._logits(batch).double().softmax(1)
        self._tested.append((batch.rows.cpu(), batch.labels.cpu(), probabilities.cpu()))

    def test_result(self) -> TestResult:
        """Return rows (N,), labels (N,) and class probabilities (N, C) of the last test.

        Where the outputs of a diverged network are not numbers, all classes are equally probable.
        """
        rows, labels, probabilities = map(torch.cat, zip(*self._tested, strict=True))
        known = probabilities.isfinite().all(1, keepdim=True)
        probabilities = torch.where(known, probabilities, 1 / probabilities.shape[1])
        return rows.numpy(), labels.numpy(), probabilities.numpy()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: Any = None,
        gradient_clip_algorithm: Any = None,
    ) -> None:
        """Clip the norm of the gradient.

        Lightning's own clipping refuses fused optimisers in mixed precision. With float16, these
        get the gradients times a scale, and the norm that is allowed is scaled alike.
        """
        if (norm := self.recipe.gradient_clip_norm) is None:
            return
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            norm *= scaler.get_scale()
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        nn.utils.clip_grad_norm_(parameters, norm)

    def configure_optimizers(self) -> Any:
        """Return the optimiser, with a schedule if the recipe has one.

        A schedule with an argument `total_steps` gets the number of steps (or epochs) of the stage.
        """
        recipe = self.recipe
        make = partial_of({**recipe.optimizer, "lr": base_rate(recipe)}, "recipe.optimizer")
        rates = block_rates(self.transfer, self.network)
        optimizer = make(parameter_groups(self.network, recipe, rates))
        if not recipe.scheduler:
            return optimizer
        schedule, arguments = partial_of(recipe.scheduler, "recipe.scheduler"), {}
        interval = recipe.scheduler_interval
        if "total_steps" in inspect.signature(schedule).parameters:
            steps = int(self.trainer.estimated_stepping_batches)
            arguments["total_steps"] = steps if interval == "step" else self.trainer.max_epochs
        scheduler = {"scheduler": schedule(optimizer, **arguments), "interval": interval}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}
