"""The options of a prediction."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stagetransfer.ct.label_table import LabelTable
from stagetransfer.ct.roi_patches import PatchSettings


@dataclass(frozen=True)
class PredictionOptions:
    """What to read, how, and which files to write.

    Attributes:
        run: name of the run, for titles and the summary.
        patches: how windows are taken from a slice.
        image_side, image_fit: how patch images are read, see `stagetransfer.data.images.decode`.
        stride: distance between neighbouring windows in pixels of a window.
        batch: number of windows that are classified at once.
        slices: numbers of the slices to read; all if empty.
        lung_masks, truth: the user's masks; `labels` names the values of `truth`.
        explained: (x, y) of the windows to explain, in pixels of the slice.
        seg: whether to write a DICOM SEG for each DICOM series.
        skip_bad: whether to continue although something is left out.
    """

    run: str
    patches: PatchSettings
    image_side: int
    image_fit: str
    stride: int = 8
    batch: int = 128
    slices: tuple[int, ...] = ()
    lung_masks: Path | None = None
    truth: Path | None = None
    labels: LabelTable = field(default_factory=LabelTable)
    explained: tuple[tuple[float, float], ...] = ()
    seg: bool = False
    skip_bad: bool = False
