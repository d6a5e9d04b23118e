"""What is wanted of a second opinion."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stagetransfer.ct.regions import Labels
from stagetransfer.ct.roi_patches import Cut


@dataclass(frozen=True)
class Ask:
    """What is wanted.

    Attributes:
        cut: how windows are cut.
        stride: pixels of a window from one to the next.
        batch: windows at once.
        slices: numbers of the slices to read; all where empty.
        mask, truth: the user's masks; `labels` names the values of `truth`.
        reasons: (x, y) of windows to be explained, in pixels of the slice.
        seg: whether to leave a SEG a DICOM series.
    """

    cut: Cut
    stride: int = 8
    batch: int = 128
    slices: tuple[int, ...] = ()
    mask: Path | None = None
    truth: Path | None = None
    labels: Labels = field(default_factory=Labels)
    reasons: tuple[tuple[float, float], ...] = ()
    seg: bool = False


@dataclass(frozen=True)
class Crop:
    """How a patch is read for the network; see `stagetransfer.data.images.decode`."""

    side: int
    fit: str
