"""Labelled image sets: layouts on disk, splits, and a LightningDataModule for each domain."""

from typing import TYPE_CHECKING, Any

from stagetransfer.config.domain_settings import DomainSettings, StageSettings
from stagetransfer.config.pretrained import Pretrained
from stagetransfer.layouts.samples import Samples

if TYPE_CHECKING:
    from stagetransfer.data.datamodule import (
        DomainDataModule,
        NaturalDataModule,
        TargetDataModule,
        TextureDataModule,
    )

__all__ = [
    "DomainDataModule", "DomainSettings", "NaturalDataModule", "Pretrained", "Samples",
    "StageSettings", "TargetDataModule", "TextureDataModule",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the data modules, and torch with them, only when one is used."""
    if name in __all__:
        from stagetransfer.data import datamodule

        return getattr(datamodule, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
