"""The DICOM objects of a prediction: what is written for which series, and what cannot be."""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stagetransfer.errors import UserError
from stagetransfer.inference.dicom_objects import CodeResult, NotWritable, ObjectMaker
from stagetransfer.inference.label_map import LabelMap
from stagetransfer.inference.prediction_figures import NOT_READ_COLOUR, label_colours
from stagetransfer.inference.prediction_input import PredictionInput

_FIRST_NUMBER = 9000


@dataclass
class SeriesObjects:
    """Writes SEG, structured report and Secondary Captures of DICOM series.

    `counts` are the files written, and the series without SEG or without captures.
    """

    source: PredictionInput
    names: Sequence[str]  # those of the codes
    parameters: Mapping[str, Any]  # of the algorithm, for SEG and report
    seg: bool  # whether to write SEG and report, or captures if these cannot be made
    captures: bool  # whether to write captures in any case
    report: Callable[[str], None]  # receives a line for each series whose objects cannot be made
    counts: Counter[str] = field(default_factory=Counter)
    _without_seg: set[int] = field(default_factory=set)

    def check(self) -> None:
        """Try SEG and report with each series' first slice; UserError if no series is DICOM."""
        volumes = self.source.volumes
        chosen = [number for number in self.source.chosen if volumes[number].instances]
        if not chosen:
            raise UserError(
                "--seg, --captures: no DICOM series was read. Omit them for other files"
            )
        for number in chosen:
            blank = np.zeros(volumes[number].shape, np.int16)
            self._make(number, {0: blank}, dict.fromkeys(self.names, 0.0), {})

    def write(
        self, part: Path, number: int, maps: Mapping[int, LabelMap], shares: Mapping[str, float],
        windows: pd.DataFrame,
    ) -> None:  # fmt: skip
        """Write the objects of a series: label maps by slice, shares of the codes, and windows."""
        greatest = windows.filter(like="p_").max(axis=1)
        means = greatest.groupby(windows["opinion"]).mean()
        certainty = {str(name): float(value) for name, value in means.items()}
        made = self._make(number, maps, shares, certainty)
        for suffix, one in made.items():
            one.save_as(part / f"{number + 1:02d}.{suffix}.dcm")
            self.counts[suffix] += 1
        if made and not self.captures:
            return
        volume = self.source.volumes[number]
        assert volume.geometry is not None
        pictures = {
            picture: self.source.path(volume, index)
            for index in windows["slice"].unique()
            if (picture := part / f"{number + 1:02d}-{index:04d}.png").is_file()
        }
        try:
            with warnings.catch_warnings(action="ignore"):  # they may show the patient's name
                maker = self._maker(number, shares, certainty)
                self.counts["sc"] += maker.write_captures(pictures, volume.geometry.orientation[:2])
        except NotWritable as error:
            self.counts["series_without_captures"] += 1
            self.report(f"note: series {number + 1}: no Secondary Captures ({error})")

    def _make(
        self, number: int, maps: Mapping[int, LabelMap], shares: Mapping[str, float],
        certainty: Mapping[str, float],
    ) -> dict[str, Any]:  # fmt: skip
        """Return SEG and report of a series; nothing, with a note, if they cannot be made."""
        volume = self.source.volumes[number]
        if not self.seg or number in self._without_seg:
            return {}
        try:
            if len(set(volume.files)) < len(volume):
                raise NotWritable("it is one multi-frame file")
            files = {self.source.path(volume, index): one for index, one in maps.items()}
            with warnings.catch_warnings(action="ignore"):
                return self._maker(number, shares, certainty).make(files)
        except NotWritable as error:
            self._without_seg.add(number)
            self.counts["series_without_seg"] += 1
            self.report(
                f"note: series {number + 1}: no SEG and no report ({error}). Its pictures are "
                "written as Secondary Captures"
            )
            return {}

    def _maker(
        self, number: int, shares: Mapping[str, float], certainty: Mapping[str, float]
    ) -> ObjectMaker:
        colours = [*label_colours(len(self.names) - 3), NOT_READ_COLOUR]
        codes = [
            CodeResult(name, colour, shares[name], certainty.get(name, float("nan")))
            for name, colour in zip(self.names, colours, strict=True)
        ]
        parameters = {name: str(value) for name, value in self.parameters.items()}
        return ObjectMaker(codes, _FIRST_NUMBER + 10 * number, parameters)
