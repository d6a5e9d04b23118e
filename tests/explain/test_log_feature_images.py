"""The callback that logs images of the features during training."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stagetransfer.config.schema import Model
from stagetransfer.explain import LogFeatureImages
from stagetransfer.models import InputSpec, alexnet_backbone, build_backbone


def build(library, name):
    if library == "alexnet":
        return alexnet_backbone(3, input=InputSpec(67))
    return build_backbone(Model(library, name, input_size=64), 3)


@pytest.mark.parametrize(
    ("library", "name", "maps", "filters"),
    [
        ("alexnet", None, "desalinet_pool5", "conv1"),
        ("torchvision", "resnet18", "desalinet_layer4", "conv1"),
        ("timm", "tf_efficientnet_lite0", "desalinet_bn2", "conv_stem"),
        ("timm", "efficientnet_b0", "salinet_bn2", "conv_stem"),
    ],
)
def test_images_are_logged_every_n_epochs(tmp_path, library, name, maps, filters):
    asked = []
    network = build(library, name).train()
    side, before = network.input.size, {k: v.clone() for k, v in network.state_dict().items()}

    def inputs(split, positions):
        asked.append((split, positions))
        return torch.randn(len(positions), 3, side, side)

    data = SimpleNamespace(
        samples=SimpleNamespace(labels=np.array([2, 0, 1, 1, 0])),
        rows={"validation": np.array([4, 2, 3])},
        inputs=inputs,
        mean=torch.full((3, 1, 1), 0.5),
        std=torch.full((3, 1, 1), 0.2),
    )
    logger = TensorBoardLogger(tmp_path)
    module = SimpleNamespace(network=network, device="cpu")
    callback = LogFeatureImages(every_n_epochs=2)
    for epoch in range(5):
        trainer = SimpleNamespace(
            current_epoch=epoch,
            global_step=10 * epoch,
            loggers=[logger],
            datamodule=data,
            sanity_checking=False,
        )
        callback.on_validation_end(trainer, module)
    trainer.current_epoch, trainer.sanity_checking = 1, True
    callback.on_validation_end(trainer, module)  # the check before the training logs nothing
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir).Reload()
    for tag, size in ((maps, (2 * side, 2 * side)), (filters, None)):
        images = events.Images(f"pictures/{tag}")
        assert [image.step for image in images] == [10, 30]
        assert size is None or (images[0].height, images[0].width) == size
    assert asked == [("validation", [0, 1])]  # the first image of each class, read once
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
