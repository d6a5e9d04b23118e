"""The callback that logs images of the features during training."""

from types import SimpleNamespace

import numpy as np
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stagetransfer.explain import LogFeatureImages
from stagetransfer.models import AlexNet


def test_images_are_logged_every_n_epochs(tmp_path):
    asked = []

    def inputs(split, positions):
        asked.append((split, positions))
        return torch.randn(len(positions), 3, 67, 67)

    data = SimpleNamespace(
        samples=SimpleNamespace(labels=np.array([2, 0, 1, 1, 0])),
        rows={"validation": np.array([4, 2, 3])},
        inputs=inputs,
        mean=torch.full((3, 1, 1), 0.5),
        std=torch.full((3, 1, 1), 0.2),
    )
    logger = TensorBoardLogger(tmp_path)
    module = SimpleNamespace(network=AlexNet(3, input_size=67).eval(), device="cpu")
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
    for tag, size in (("pictures/desalinet_pool5", (2 * 67, 2 * 67)), ("pictures/conv1", None)):
        images = events.Images(tag)
        assert [image.step for image in images] == [10, 30]
        assert size is None or (images[0].height, images[0].width) == size
    assert asked == [("validation", [0, 1])]  # the first image of each class, read once
