"""The settings of a domain's data: those of its config, and those that its stage decides.

This module imports neither torch nor the readers, so a config can be checked before they load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stagetransfer.errors import UserError

# The role of a field: does its value decide the result of a stage? Only fields that do are hashed.
_DECIDES = {"role": "decides"}
_IDLE = {"role": "idle"}
_CHOICES = {"split_by": ("group", "image"), "fit": ("crop", "stretch")}


@dataclass(frozen=True)
class DomainSettings:
    """The keys of a domain in the config; conf/domain/common.yaml explains them."""

    layout: str = field(metadata=_DECIDES)  # "embedded" or a name in `data.layouts.LAYOUTS`
    root: Path | None = field(default=None, metadata=_IDLE)  # folder of the images
    options: dict[str, Any] = field(default_factory=dict, metadata=_DECIDES)  # for the reader
    validation_share: float = field(default=0.15, metadata=_DECIDES)  # in (0, 1)
    test_share: float = field(default=0.25, metadata=_DECIDES)  # in (0, 1); target only
    split_by: str = field(default="group", metadata=_DECIDES)  # "group" or "image"
    split_seed: int = field(default=0, metadata=_DECIDES)  # draws the held-out images
    split_file: Path | None = field(default=None, metadata=_IDLE)  # its content decides
    fold: int | None = field(default=None, metadata=_DECIDES)  # of the split file: the test set
    fit: str = field(default="crop", metadata=_DECIDES)  # to a square: "crop" or "stretch"
    mirror: bool = field(default=True, metadata=_DECIDES)  # random left-right flips
    turn: bool = field(default=False, metadata=_DECIDES)  # random quarter turns
    crop: float = field(default=0.0, metadata=_DECIDES)  # share of the side, in [0, 1)
    augment: bool = field(default=True, metadata=_DECIDES)  # random variants in training
    workers: int = field(default=0, metadata=_IDLE)  # processes that decode images
    memory_limit_gib: float = field(default=4.0, metadata=_IDLE)  # for decoded images
    device_memory_limit_gib: float = field(default=4.0, metadata=_IDLE)  # the same on the GPU
    check_images: bool = field(default=True, metadata=_IDLE)  # open every file when reading
    index: bool = field(default=True, metadata=_IDLE)  # keep an index of a large folder tree

    @classmethod
    def from_config(cls, values: Mapping[str, Any], key: str) -> Self:
        """Return the settings, with types converted as Hydra does.

        Args:
            values: the domain's keys without `_target_` and `_partial_`.
            key: place in the config ("domain.target"), for messages.

        Raises:
            UserError: a key is unknown or missing, or a value is of the wrong type or impossible.
        """
        known = [one.name for one in fields(cls)]
        for name in values:
            if name not in known:
                raise UserError(
                    f"{key}.{name}: no such setting; there are {', '.join(known)}. "
                    f"Remove it with ~{key}.{name}."
                )
        if "layout" not in values:
            raise UserError(f"{key}.layout is required. Set {key}.layout=folder, for example.")
        try:
            typed = OmegaConf.merge(OmegaConf.structured(cls), dict(values))
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{key}.{error.full_key}: {reason}. Give another value.") from error
        settings = OmegaConf.to_object(typed)
        assert isinstance(settings, cls)
        settings._check(key)
        return settings

    def _check(self, key: str) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UserError(f"{key}.{name}={getattr(self, name)}: none of {', '.join(choices)}")
        for name in ("validation_share", "test_share"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"{key}.{name}={getattr(self, name)}: must lie between 0 and 1")
        if not 0 <= self.crop < 1:
            raise UserError(f"{key}.crop={self.crop}: must be 0 or more and below 1")
        if self.layout != "embedded" and self.root is None:
            raise UserError(f"{key}.root is required: give it as {key}.root=/path/to/images")

    @property
    def random_variants(self) -> dict[str, Any]:
        """The options that make random variants of an image; empty if none is on."""
        options = {"mirror": self.mirror, "turn": self.turn, "crop": self.crop}
        return {name: value for name, value in options.items() if value}

    def deciding(self, *, is_target: bool) -> dict[str, Any]:
        """Return the values that decide a result, with options that have no effect set to off."""
        augment = self.augment and bool(self.random_variants)
        deciding = [one.name for one in fields(self) if one.metadata == _DECIDES]
        return {
            **{name: getattr(self, name) for name in deciding},
            "test_share": self.test_share if is_target else None,
            "augment": augment,
            "mirror": self.mirror and augment,
            "turn": self.turn and augment,
        }


@dataclass(frozen=True)
class StageSettings:
    """What the stage decides about its data.

    Attributes:
        name: the domain's key in the config.
        is_target: whether this is the last stage of its chain, which has a test set.
        ratio: share r of the training images that is used, in (0, 1].
        ratio_by: what the ratio counts: "image", or "group" for whole groups.
        seed: draws the subset and the order of the images.
        batch_size: images per training step.
        balanced: draw all classes equally often.
        downsampled: use as many training images of each class as the rarest class has.
        input_size: side of the network's input in pixels.
        mean, std: of R, G and B, for values in [0, 1].
    """

    name: str
    is_target: bool = True
    ratio: float = 1.0
    ratio_by: str = "image"
    seed: int = 0
    batch_size: int = 64
    balanced: bool = False
    downsampled: bool = False
    input_size: int = 227
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if self.ratio_by not in ("image", "group"):
            raise UserError(f"ratio_by={self.ratio_by}: none of image, group")

    @property
    def key(self) -> str:
        """Place of the domain in the config, for messages."""
        return f"domain.{self.name}"

    def deciding(self) -> dict[str, Any]:
        """Return the values that decide which images are used; the rest is in other identities."""
        return {"ratio": self.ratio, "ratio_by": self.ratio_by if self.ratio < 1 else None}
