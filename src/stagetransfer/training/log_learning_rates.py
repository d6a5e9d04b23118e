"""A callback that logs each block's learning rate."""

import pytorch_lightning as pl


class LogLearningRates(pl.Callback):
    """Log the learning rate of each block's weights at the start of each epoch.

    The tag is such that TensorBoard shows losses and validation metrics before it.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rates = {
            f"weight_learning_rate/{group['name'].removesuffix('.weight')}": float(group["lr"])
            for group in trainer.optimizers[0].param_groups
            if group["name"].endswith(".weight")
        }
        for logger in trainer.loggers:
            logger.log_metrics(rates, step=trainer.global_step)
