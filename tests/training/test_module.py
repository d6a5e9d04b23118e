import math

import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from stagetransfer.config.schema import Model, Recipe, Transfer
from stagetransfer.data.images import Batch
from stagetransfer.training import ClassifierModule

SMALL = Model(input_size=39)


def recipe(**options):
    optimizer = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}
    return Recipe(1, 1, optimizer, **options)


def test_learning_rates_and_weight_decay_come_from_the_settings():
    transfer = Transfer(rates=[["head", 10], [".*", 1]])
    module = ClassifierModule(SMALL, ["a", "b"], recipe(bias_rate=2), transfer)
    optimizer = module.configure_optimizers()
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert groups["conv1.weight"]["lr"] == pytest.approx(0.1)
    assert groups["fc8.weight"]["lr"] == pytest.approx(1.0)
    assert groups["fc8.bias"]["lr"] == pytest.approx(2.0)
    assert groups["fc8.weight"]["weight_decay"] == 0.2
    assert groups["fc8.bias"]["weight_decay"] == 0
    assert {group["momentum"] for group in groups.values()} == {0.9}


def test_a_subclass_can_override_network_loss_and_metrics():
    class Custom(ClassifierModule):
        def configure_network(self, model, num_classes, seed):
            network = super().configure_network(model, num_classes, seed)
            torch.nn.init.zeros_(network.net.fc8.weight)
            return network

        def loss(self, logits, labels):
            return logits.sum() + 7

        def configure_metrics(self, num_classes):
            return MetricCollection({"top1": MulticlassAccuracy(num_classes)})

    module = Custom(SMALL, ["a", "b"], recipe())
    batch = Batch(torch.zeros(2, 3, 39, 39), torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert module.training_step(batch, 0).item() == 7
    module.validation_step(batch, 0)
    assert set(module.validation_metrics.compute()) == {"top1"}


def test_validation_averages_over_the_classes_that_have_images():
    """A network that is right about two of three classes, of which the third has no image."""
    logged = {}

    class Right(ClassifierModule):
        def _logits(self, batch):
            return 9 * torch.eye(3)[batch.labels]

        def log_dict(self, values):
            logged.update({name: float(value) for name, value in values.items()})

    module = Right(SMALL, ["a", "b", "c"], recipe())
    for labels in ([0, 1], [1, 1]):
        images = torch.zeros(len(labels), 3, 39, 39)
        module.validation_step(Batch(images, torch.tensor(labels), torch.arange(2)), 0)
    module.on_validation_epoch_end()
    for name in ("accuracy", "precision", "recall", "f1", "auroc"):
        assert logged[f"validation/{name}"] == 1
    module.validation_step(Batch(torch.zeros(1, 3, 39, 39), torch.tensor([2]), torch.arange(1)), 0)
    module.on_validation_epoch_end()
    assert logged["validation/recall"] == 1
    assert math.isnan(logged["validation/auroc"])  # a single class
