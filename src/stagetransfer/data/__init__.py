"""Labelled image sets: layouts on disk, splits, and a LightningDataModule for each domain."""

from stagetransfer.data.datamodule import (
    DomainDataModule,
    NaturalDataModule,
    TargetDataModule,
    TextureDataModule,
)
from stagetransfer.data.pretrained import Pretrained
from stagetransfer.data.samples import Samples

__all__ = [
    "DomainDataModule",
    "NaturalDataModule",
    "Pretrained",
    "Samples",
    "TargetDataModule",
    "TextureDataModule",
]
