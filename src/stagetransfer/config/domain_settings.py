"""The settings of a domain's images: those of the domain, and those that a stage decides."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from stagetransfer.config.ranges import CHOICES
from stagetransfer.config.schema import decides, idle
from stagetransfer.config.typed import typed
from stagetransfer.errors import UserError

OPTIONAL = ("confounder", "label_noise", "long_tail")  # part of a hash only where they are set
_PATHS = ("root", "split_file")


@dataclass(frozen=True)
class DomainSettings:
    """The keys of a domain in the config; conf/domain/common.yaml explains them."""

    layout: str = decides()  # "embedded" or a name in `layouts.LAYOUTS`
    root: Path | None = idle(None)  # folder of the images
    options: dict[str, Any] = decides({})  # for the reader
    validation_share: float = decides(0.15)  # in (0, 1)
    test_share: float = decides(0.25)  # in (0, 1); target only
    split_by: str = decides("group")  # "group" or "image"
    split_seed: int = decides(0)  # draws the held-out images
    split_file: Path | None = idle(None)  # its content decides
    fold: int | None = decides(None)  # of the split file: the test set
    fit: str = decides("crop")  # to a square: "crop" or "stretch"
    mirror: bool = decides(True)  # random left-right flips
    turn: bool = decides(False)  # random quarter turns
    crop: float = decides(0.0)  # share of the side, in [0, 1)
    augment: bool = decides(True)  # random variants in training
    workers: int = idle(0)  # processes that decode images
    memory_limit_gib: float = idle(4.0)  # for decoded images
    disk_limit_gib: float = idle(16.0)  # for decoded images that do not fit memory_limit_gib
    device_memory_limit_gib: float = idle(4.0)  # the same on the GPU
    check_images: bool = decides(True)  # decode every file when reading: the fingerprint
    confounder: float | None = decides(None)  # strength of a planted one; target only
    confounder_kind: str | None = decides(None)  # "mark" (None), "frequency", "noise"
    confounder_class: str | None = decides(None)  # that it goes with; None: the first
    confounder_test: str | None = decides(None)  # in the test: "reversed" (None), "absent", "same"
    label_noise: float | None = decides(None)  # share of wrong training labels; target only
    long_tail: float | None = decides(None)  # share of images that the rarest class keeps; likewise
    index: bool = idle(True)  # keep an index of a large folder tree

    @classmethod
    def from_config(cls, values: Mapping[str, Any], key: str) -> Self:
        """Return the settings, with types converted as Hydra does.

        UserError if a key is unknown or missing, or a value is of the wrong type or impossible.
        `key` is the domain's place in the config, such as "domain.target".
        """
        settings = typed(cls, (key, values))
        settings._check(key)
        # Their neutral values are no setting, so that a sweep over 0,0.2,0.4 finds runs without it.
        noise = settings.label_noise or None
        tail = None if settings.long_tail == 1 else settings.long_tail
        return replace(settings, label_noise=noise, long_tail=tail)

    def _check(self, key: str) -> None:
        for name in ("confounder_kind", "confounder_class", "confounder_test"):
            if self.confounder is None and getattr(self, name) is not None:
                raise UserError(
                    f"{key}.{name}: no confounder is planted. Set {key}.confounder too."
                )
        if self.layout != "embedded" and self.root is None:
            raise UserError(f"{key}.root is required: give it as {key}.root=/path/to/images")

    @property
    def planted(self) -> dict[str, Any]:
        """The settings of the planted confounder; empty if there is none."""
        if self.confounder is None:
            return {}
        other = self.confounder_kind not in (None, "mark")
        return {
            "confounder": self.confounder,
            **({"confounder_kind": self.confounder_kind} if other else {}),
            "confounder_class": self.confounder_class,
            "confounder_test": self.confounder_test or "reversed",
        }

    @property
    def worsened(self) -> dict[str, float]:
        """The settings beside the ratio that make the training set worse, if there are any."""
        found = {"label_noise": self.label_noise, "long_tail": self.long_tail}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def random_variants(self) -> dict[str, Any]:
        """The options that make random variants of an image; empty if none is on."""
        options = {"mirror": self.mirror, "turn": self.turn, "crop": self.crop}
        return {name: value for name, value in options.items() if value}

    def deciding(self, *, is_target: bool) -> dict[str, Any]:
        """Return the values that decide a result, with options that have no effect set to off."""
        augment = self.augment and bool(self.random_variants)
        deciding = [one.name for one in fields(self) if one.metadata["role"] == "decides"]
        deciding = [name for name in deciding if not name.startswith(OPTIONAL)]
        return {
            **{name: getattr(self, name) for name in deciding},
            "test_share": self.test_share if is_target else None,
            "augment": augment,
            "mirror": self.mirror and augment,
            "turn": self.turn and augment,
            **self.planted,
            **self.worsened,
        }


@dataclass(frozen=True)
class StageSettings:
    """What the stage decides about its data."""

    name: str  # the domain's key in the config
    is_target: bool = True  # the last stage of its chain, which has a test set
    ratio: float = 1.0  # share r of the training images that is used, in (0, 1]
    ratio_by: str = "image"  # what the ratio counts: "image", or "group" for whole groups
    seed: int = 0  # draws the subset and the order of the images
    batch_size: int = 64
    balanced: bool = False  # draw all classes equally often
    downsampled: bool = False  # use as many training images of each class as the rarest has
    input_size: int = 227  # side in pixels
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of R, G and B, for values in [0, 1]
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if self.ratio_by not in CHOICES["ratio_by"]:
            raise UserError(f"ratio_by={self.ratio_by}: none of {', '.join(CHOICES['ratio_by'])}")

    @property
    def key(self) -> str:
        """Place of the domain in the config, for messages."""
        return f"domain.{self.name}"

    def deciding(self) -> dict[str, Any]:
        """Return the values that decide which images are used; the rest is in other identities."""
        return {"ratio": self.ratio, "ratio_by": self.ratio_by if self.ratio < 1 else None}


def checked_domain(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a domain's part of the config, with each known key in its type ("no": False).

    Paths stay texts, and so do the keys of a user's own class. UserError, see `from_config`.
    """
    if "layout" not in values:  # published weights, or a user's own class
        return dict(values)
    known = {one.name: values[one.name] for one in fields(DomainSettings) if one.name in values}
    settings = DomainSettings.from_config(known, key)
    return {**values, **{name: getattr(settings, name) for name in known if name not in _PATHS}}
