"""Predicting an input, from reading it to the files that are written; all of them or nothing.

out/shares.csv     one row per slice: windows, lung pixels, share of each class and mark
out/windows.csv    one row per window: position, prediction, distance, calibrated probabilities
out/patches.csv    one row per patch, if the input holds patches
out/SS-NNNN.png    slice NNNN of series SS with its label map
out/patch-NNNN.png a patch with its probabilities
out/reason-....png the explanation of a window, on request
out/SS.seg.dcm     one SEG per DICOM series, on request
out/dice.csv, confusion.csv   if the truth is given
out/summary.json   what was read, how, and what was left out
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from stagetransfer.ct.annotations import Annotations
from stagetransfer.ct.input_problems import Problems, relative_name
from stagetransfer.ct.patch_dataset import check_output_folder
from stagetransfer.ct.volume import UnreadableSlice, Volume
from stagetransfer.data.images import decode
from stagetransfer.errors import UserError
from stagetransfer.figures import save_figure
from stagetransfer.files import atomic_folder, write_json
from stagetransfer.inference.agreement import Agreement
from stagetransfer.inference.calibrated_classifier import CalibratedClassifier
from stagetransfer.inference.explanation import explanation_figure
from stagetransfer.inference.label_map import DISCLAIMER, LabelMap
from stagetransfer.inference.lung_mask import lung_mask
from stagetransfer.inference.prediction_figures import patch_figure, slice_figure
from stagetransfer.inference.prediction_input import PredictionInput
from stagetransfer.inference.prediction_options import PredictionOptions
from stagetransfer.inference.prediction_tables import (
    SliceLocation,
    prediction_table,
    share_row,
    total_shares,
    window_table,
)
from stagetransfer.inference.slice_prediction import SlicePrediction, predict_slice
from stagetransfer.inference.user_masks import (
    lung_by_slice,
    open_lung_masks,
    open_truth,
    truth_by_slice,
)

_SUMMARISED = ("size", "level", "width", "spacing", "coverage")


def write_predictions(
    classifier: CalibratedClassifier,
    source: PredictionInput,
    out: Path,
    options: PredictionOptions,
    problems: Problems,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Predict everything in the source, and write the new folder `out`.

    Args:
        problems: what was found so far; further problems are added.
        report: receives a line for each slice and patch that is read.

    Returns:
        The content of summary.json.

    Raises:
        BadInput: there are problems, and `options.skip_bad` is not set.
        UserError: `out` exists or cannot be written, everything was left out, or something that
            the options name does not exist.
    """
    writer = _Writer(classifier, source, options, problems, report)
    writer.check()
    check_output_folder(out)
    try:
        with atomic_folder(out) as part:
            return writer.write(part)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from error


class _Writer:
    def __init__(
        self,
        classifier: CalibratedClassifier,
        source: PredictionInput,
        options: PredictionOptions,
        problems: Problems,
        report: Callable[[str], None],
    ) -> None:
        self.classifier, self.source, self.options = classifier, source, options
        self.problems, self.report = problems, report
        self.names = classifier.label_names
        self.lungs: Annotations | None = None
        self.truth: Annotations | None = None
        if options.lung_masks is not None:
            self.lungs = open_lung_masks(options.lung_masks, source.volumes, problems)
        if options.truth is not None:
            self.truth = open_truth(options.truth, source.volumes, options.labels, problems)
        self.agreement = Agreement(classifier.classes)
        self.rows: list[dict[str, Any]] = []
        self.windows: list[pd.DataFrame] = []
        self.patches: list[pd.DataFrame] = []
        self.explanations = 0
        self.segmentations = 0

    def check(self) -> None:
        """Raise BadInput if there are problems that the user did not ask to leave out."""
        self.problems.check(self.options.skip_bad)

    def write(self, part: Path) -> dict[str, Any]:
        for number in self.source.chosen:
            self._write_series(part, number)
        for number, path in enumerate(self.source.patches, 1):
            self._write_patch(part, number, path)
        self._check_results()
        if self.rows:
            _write_csv(pd.DataFrame(self.rows), part / "shares.csv")
            _write_csv(pd.concat(self.windows), part / "windows.csv")
        if self.patches:
            _write_csv(pd.concat(self.patches), part / "patches.csv")
        if self.agreement.slices:
            _write_csv(self.agreement.table(), part / "dice.csv")
            self.agreement.confusion().to_csv(part / "confusion.csv")
        summary = self._summary()
        write_json(part / "summary.json", summary)
        return summary

    def _write_series(self, part: Path, number: int) -> None:
        volume, options = self.source.volumes[number], self.options
        lungs = None if self.lungs is None else lung_by_slice(self.lungs, number, volume)
        truth: dict[int, LabelMap] = {}
        if self.truth is not None:
            classes = self.classifier.classes
            truth = truth_by_slice(self.truth, number, volume, classes, self.problems)
        self.check()
        maps: dict[Path, LabelMap] = {}
        for index in self._slices(volume):
            location = SliceLocation(volume.files[index], number + 1, index)
            try:
                hu = volume.read_slice(index)
            except UnreadableSlice as error:
                self.problems.add("unreadable slices", volume.files[index], str(error))
                self.check()
                continue
            empty = np.zeros(volume.shape, np.bool_)
            lung = lung_mask(hu, volume.spacing) if lungs is None else lungs.get(index, empty)
            prediction = predict_slice(
                self.classifier,
                hu,
                lung,
                volume.spacing,
                options.patches,
                stride=options.stride,
                batch=options.batch,
            )
            if index in truth:
                found = prediction.labels, prediction.labels_without_marks
                self.agreement.add(volume.patient, truth[index], *found)
            self._write_slice(part, location, prediction, truth.get(index))
            maps[self.source.path(volume, index)] = prediction.labels
        if options.seg and volume.sop_uids:
            self._write_segmentation(part / f"{number + 1:02d}.seg.dcm", maps, 9000 + number)

    def _slices(self, volume: Volume) -> list[int]:
        wanted = self.options.slices or range(len(volume))
        for index in wanted:
            if not 0 <= index < len(volume):
                raise UserError(
                    f"--slice {index}: {volume.where} has the slices 0 to {len(volume) - 1}"
                )
        return list(wanted)

    def _write_slice(
        self,
        part: Path,
        location: SliceLocation,
        prediction: SlicePrediction,
        truth: LabelMap | None,
    ) -> None:
        row = share_row(location, prediction, self.names)
        self.rows.append(row)
        self.windows.append(window_table(location, prediction, self.names))
        self.report(f"series {location.series} slice {location.index}: {row['windows']} windows")
        if row["windows"]:
            title = f"{self.options.run}: series {location.series}, slice {location.index}"
            _save(slice_figure(prediction, self.names, row, title, truth), part / location.stem)
            self._write_explanations(part, location, prediction)

    def _write_explanations(
        self, part: Path, location: SliceLocation, prediction: SlicePrediction
    ) -> None:
        for position in self.options.explained:
            figure, (x, y) = explanation_figure(
                self.classifier, prediction, position, location.index
            )
            _save(figure, part / f"reason-{location.stem}-{x:g}-{y:g}")
            self.explanations += 1

    def _write_segmentation(self, path: Path, maps: dict[Path, LabelMap], number: int) -> None:
        # Imported here, because highdicom is large and only needed for --seg.
        from stagetransfer.inference.dicom_seg_writer import write_segmentation

        write_segmentation(path, maps, self.names, self.options.run, number)
        self.segmentations += 1

    def _write_patch(self, part: Path, number: int, path: Path) -> None:
        where = relative_name(path, self.source.root)
        try:
            image = decode(path, self.options.image_side, self.options.image_fit)
        except UserError as error:
            self.problems.add("unreadable files", where, str(error))
            self.check()
            return
        pixels = torch.from_numpy(image.copy())
        batch = pixels[None, None] if image.ndim == 2 else pixels.permute(2, 0, 1)[None]
        predictions = self.classifier([batch])
        table = prediction_table(predictions, self.names)
        table.insert(0, "file", where)
        self.patches.append(table)
        label = self.names[predictions.codes[0]]
        self.report(f"patch {number}: {label}")
        title = f"{self.options.run}: patch {number}"
        classes, probabilities = self.classifier.classes, predictions.probabilities[0]
        figure = patch_figure(image, classes, probabilities, label, title)
        _save(figure, part / f"patch-{number:04d}")

    def _check_results(self) -> None:
        options = self.options
        if not self.rows and not self.patches:
            raise UserError(
                f"{self.source.root}: nothing was read, because everything in it was left out. "
                "Correct the problems listed above"
            )
        if options.seg and not self.segmentations:
            raise UserError("--seg: no DICOM series was read. Omit --seg for NIfTI and PNG")
        if options.explained and not self.explanations:
            raise UserError("--reason: no window was read, so there is nothing to explain")
        if self.truth is not None and not self.agreement.slices:
            raise UserError("--truth: it labels none of the slices that were read")

    def _summary(self) -> dict[str, Any]:
        patches = asdict(self.options.patches)
        return {
            "notice": DISCLAIMER,
            "run": self.options.run,
            "series": len(self.source.chosen),
            "slices": len(self.rows),
            "slices_without_windows": sum(not row["windows"] for row in self.rows),
            "windows": sum(row["windows"] for row in self.rows),
            "patches": len(self.patches),
            "slices_with_truth": self.agreement.slices,
            "shares": total_shares(self.rows, self.names),
            "left_out": dict(sorted(self.problems.counts.items())),
            "temperature": self.classifier.temperature,
            "certain": self.classifier.min_probability,
            "distance_limit": self.classifier.max_distance,
            "stride": self.options.stride,
            "lung_mask": "threshold" if self.options.lung_masks is None else "given",
            "cut": {key: patches[key] for key in _SUMMARISED},
        }


def _save(figure: Figure, path: Path) -> None:
    save_figure(figure, path, suffixes=(".png",), dpi=110)


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, float_format="%.6g")
