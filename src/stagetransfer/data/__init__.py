"""Labelled image sets: layouts on disk, splits, and a LightningDataModule for each domain."""

from stagetransfer.data.datamodule import (
    DomainDataModule,
    NaturalDataModule,
    TargetDataModule,
    TextureDataModule,
)
from stagetransfer.data.pretrained import Pretrained
from stagetransfer.data.samples import Samples
from stagetransfer.data.settings import DomainSettings, StageSettings

__all__ = [
    "DomainDataModule",
    "DomainSettings",
    "NaturalDataModule",
    "Pretrained",
    "Samples",
    "StageSettings",
    "TargetDataModule",
    "TextureDataModule",
]
