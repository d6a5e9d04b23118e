"""Predicting an input, from reading it to the files that are written; all of them or nothing.

out/shares.csv     one row per slice: windows, lung area, share of each class and mark
out/patients.csv   the same, one row per patient
out/windows.csv    one row per window: position, prediction, distance, calibrated probabilities
out/patches.csv    one row per patch, if the input holds patches
out/SS-NNNN.png    slice NNNN of series SS with its label map
out/patch-NNNN.png a patch with its probabilities
out/reason-....png the explanation of a window, on request
out/similar.csv    the training images most similar to these windows
out/SS.seg.dcm, SS.lung.seg.dcm, SS.sr.dcm
                   SEG of the label maps, of the lung, and report of a DICOM series, on request
out/SS-NNNN.sc.dcm the picture as Secondary Capture, on request or without a SEG
out/dice.csv, confusion.csv   if the truth is given
out/summary.json   what was read, how, and what was left out
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from stagetransfer.ct import Annotations, LabelTable, PatchSettings, Problems, Volume
from stagetransfer.ct.input_problems import relative_name
from stagetransfer.ct.mask_annotations import MaskAnnotations, open_annotations
from stagetransfer.ct.roi_patches import Mask
from stagetransfer.data.images import decode
from stagetransfer.errors import UserError
from stagetransfer.figures import save_figure
from stagetransfer.files import atomic_folder, check_is_new, csv_text, write_json, write_text
from stagetransfer.formats.unusable import Unreadable
from stagetransfer.inference.agreement import Agreement
from stagetransfer.inference.calibrated_classifier import CalibratedClassifier
from stagetransfer.inference.explanation import check_positions, explanation_figure
from stagetransfer.inference.label_map import DISCLAIMER, LabelMap, label_shares, patient_shares
from stagetransfer.inference.lung_mask import lungs_of
from stagetransfer.inference.prediction_figures import patch_figure, slice_figure
from stagetransfer.inference.prediction_input import PredictionInput, check_widths
from stagetransfer.inference.reference_features import Examples
from stagetransfer.inference.slice_prediction import SlicePrediction, predict_slice
from stagetransfer.inference.user_masks import check_values, lung_by_slice, truth_by_slice

if TYPE_CHECKING:
    from stagetransfer.inference.series_objects import SeriesObjects


@dataclass(frozen=True)
class PredictionOptions:
    """What to read, how, and which files to write."""

    run: str  # name of the run, for titles and the summary
    patches: PatchSettings  # how windows are taken from a slice
    image_side: int  # with `image_fit`: how patch images are read, see `data.images.decode`
    image_fit: str
    stride: int = 8  # distance between neighbouring windows in pixels of a window
    batch: int = 128  # windows that are classified at once
    slices: tuple[int, ...] = ()  # numbers of the slices to read; all if empty
    lung_masks: Path | None = None  # the user's masks
    lung_values: tuple[str, ...] = ()  # of these masks that are lung; none: all except 0
    truth: Path | None = None  # masks or outlines of the true classes
    labels: LabelTable = field(default_factory=LabelTable)  # names of the values of `truth`
    explained: tuple[tuple[float, float], ...] = ()  # x, y of windows, in pixels of the slice
    examples: Examples | None = None  # training images, to show those similar to these windows
    trained_width: float | None = None  # of a training patch in mm; None if unknown
    seg: bool = False  # whether to write a SEG and a structured report for each DICOM series
    captures: bool = False  # whether to write the pictures of DICOM series as captures, too
    skip_bad: bool = False  # whether to continue although something is left out


def write_predictions(
    classifier: CalibratedClassifier,
    source: PredictionInput,
    out: Path,
    options: PredictionOptions,
    problems: Problems,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Predict everything in the source, and write the new folder `out`.

    Further `problems` are added, which are a UserError unless `options.skip_bad` is set. `report`
    receives a line for each slice and patch that is read. The content of summary.json is returned.
    """
    writer = _Writer(classifier, source, options, problems, report)
    problems.check(options.skip_bad)
    check_is_new(out, "--out")
    with atomic_folder(out) as part:
        return writer.write(part)


@dataclass
class _Writer:
    classifier: CalibratedClassifier
    source: PredictionInput
    options: PredictionOptions
    problems: Problems
    report: Callable[[str], None]

    def __post_init__(self) -> None:
        options, volumes, problems = self.options, self.source.volumes, self.problems
        self.names = self.classifier.label_names
        self.lungs: Annotations | None = None
        self.truth: Annotations | None = None
        if options.lung_masks is not None:
            # Regions have the value that makes them lung as their label.
            values = {value: value for value in options.lung_values}
            lung = LabelTable(values | {"*": "" if values else "lung"})
            self.lungs = MaskAnnotations(options.lung_masks, volumes, lung, problems)
        if options.truth is not None:
            self.truth = open_annotations(options.truth, volumes, options.labels, problems)
        self.agreement = Agreement(self.classifier.classes)
        self.rows: list[dict[str, Any]] = []
        self.tables: defaultdict[str, list[pd.DataFrame]] = defaultdict(list)
        self.explained: set[tuple[float, float]] = set()
        self.other_widths, self.unseen = 0, set(options.lung_values)
        self.objects: SeriesObjects | None = None
        if options.seg or options.captures:
            # Imported here, because highdicom is large and only needed for these options.
            from stagetransfer.inference import series_objects

            self.objects = series_objects.SeriesObjects(
                self.source, self.names, self._algorithm(), options.seg, options.captures,
                self.report,
            )  # fmt: skip

    def write(self, part: Path) -> dict[str, Any]:
        patches, trained = self.options.patches, self.options.trained_width
        self.other_widths = check_widths(self.source, patches, trained, self.report)
        if self.objects is not None:
            self.objects.check()
        volumes = [self.source.volumes[number] for number in self.source.chosen]
        check_positions(self.options.explained, volumes)
        for number in self.source.chosen:
            self._write_series(part, number)
        for number, path in enumerate(self.source.patches, 1):
            self._write_patch(part, number, path)
        self._check_results()
        patients = pd.DataFrame()
        if self.rows:
            slices = pd.DataFrame(self.rows)
            patients = patient_shares(slices, self.names)
            _write_csv(slices, part / "shares.csv")
            _write_csv(patients, part / "patients.csv")
        for name, tables in self.tables.items():
            _write_csv(pd.concat(tables), part / f"{name}.csv")
        if self.agreement.slices:
            _write_csv(self.agreement.table(), part / "dice.csv")
            confusion = csv_text(self.agreement.confusion(), index=True)
            write_text(part / "confusion.csv", confusion)
        summary = self._summary(patients)
        write_json(part / "summary.json", summary)
        return summary

    def _leave_out(self, kind: str, where: str, text: str) -> None:
        self.problems.add(kind, where, text)
        self.problems.check(self.options.skip_bad)

    def _write_series(self, part: Path, number: int) -> None:
        volume, options = self.source.volumes[number], self.options
        truth = dict[int, LabelMap]()
        lung_of: Callable[[int], Mask]
        if self.lungs is None:
            lungs = lungs_of(volume)
            if lungs.shape[0] and not lungs.parts:
                text = "no plausible lung on any slice, as in an abdomen. Give the lungs by --mask"
                self._leave_out("series without a plausible lung", volume.where, text)
                return
            lung_of = lungs.mask
        else:
            lung_of = lung_by_slice(self.lungs, number, volume, self.unseen, self.problems)
            if options.lung_masks is not None and number == self.source.chosen[-1]:
                check_values(self.unseen, options.lung_masks, self.problems)
        if self.truth is not None:
            classes = self.classifier.classes
            truth = truth_by_slice(self.truth, number, volume, classes, self.problems)
        self.problems.check(options.skip_bad)
        maps: dict[int, LabelMap] = {}
        first = len(self.rows)
        for index in self._slices(volume):
            try:
                hu = volume.read_slice(index)
            except Unreadable as error:
                self._leave_out("unreadable slices", volume.files[index], str(error))
                continue
            found = predict_slice(
                self.classifier, hu, lung_of(index), volume.spacing, options.patches,
                stride=options.stride, batch=options.batch,
            )  # fmt: skip
            if index in truth:
                labels = found.labels, found.labels_without_marks
                self.agreement.add(volume.patient, truth[index], *labels)
            at = {"file": volume.files[index], "series": number + 1, "slice": index}
            self._write_slice(part, volume, at, found, truth.get(index))
            if options.seg and volume.instances:
                maps[index] = found.labels
        if self.objects is not None and volume.instances and len(self.rows) > first:
            whole = patient_shares(pd.DataFrame(self.rows[first:]), self.names).iloc[0]
            shares = {name: float(whole[name]) for name in self.names}
            windows = pd.concat(self.tables["windows"][first:])
            self.objects.write(part, number, maps, shares, windows)

    def _slices(self, volume: Volume) -> list[int]:
        last = len(volume) - 1
        for index in self.options.slices:
            if not 0 <= index <= last:
                raise UserError(f"--slice {index}: {volume.where} has the slices 0 to {last}")
        return list(dict.fromkeys(self.options.slices or range(len(volume))))

    def _write_slice(
        self, part: Path, volume: Volume, at: dict[str, Any], found: SlicePrediction,
        truth: LabelMap | None,
    ) -> None:  # fmt: skip
        """Add a slice to the tables, and draw it; `at` are the first columns of its rows."""
        series, index = at["series"], at["slice"]
        windows = len(found.predictions)
        shares = label_shares(found.labels, self.names)
        pixels = int(found.lung.sum())
        lung = {"lung_pixels": pixels, "lung_mm2": pixels * prod(volume.spacing or [np.nan])}
        self.rows.append({"patient": volume.patient, **at, "windows": windows, **lung, **shares})
        x, y = found.centres.T
        table = found.predictions.table(self.names, {**at, "x": x, "y": y})
        self.tables["windows"].append(table)
        self.report(f"series {series} slice {index}: {windows} windows")
        if not windows:
            return
        stem = f"{series:02d}-{index:04d}"
        title = f"{self.options.run}: series {series}, slice {index}"
        patches = self.options.patches
        _save(slice_figure(found, shares, volume, index, patches, title, truth), part / stem)
        for position in self.options.explained:
            examples = self.options.examples
            assert examples is not None
            if (number := found.window_at(*position)) < 0:
                continue
            self.explained.add(position)
            figure, similar = explanation_figure(self.classifier, examples, found, number, at)
            x, y = found.centres[number]
            _save(figure, part / f"reason-{stem}-{x:g}-{y:g}")
            self.tables["similar"].append(similar)

    def _write_patch(self, part: Path, number: int, path: Path) -> None:
        where = relative_name(path, self.source.root)
        try:
            image = decode(path, self.options.image_side, self.options.image_fit)
        except UserError as error:
            self._leave_out("unreadable files", where, str(error))
            return
        pixels = torch.from_numpy(image.copy())
        batch = pixels[None, None] if image.ndim == 2 else pixels.permute(2, 0, 1)[None]
        predictions = self.classifier([batch])
        self.tables["patches"].append(predictions.table(self.names, {"file": where}))
        label = self.names[predictions.codes[0]]
        self.report(f"patch {number}: {label}")
        title = f"{self.options.run}: patch {number}"
        classes, probabilities = self.classifier.classes, predictions.probabilities[0]
        figure = patch_figure(image, classes, probabilities, label, title)
        _save(figure, part / f"patch-{number:04d}")

    def _check_results(self) -> None:
        options = self.options
        if not self.rows and not self.tables:
            raise UserError(
                f"{self.source.root}: nothing was read, because everything in it was left out. "
                "Correct the problems listed above"
            )
        for x, y in options.explained:
            if (x, y) not in self.explained:
                raise UserError(
                    f"--reason {x:g},{y:g}: lies in no window that was read. Give a position in "
                    "the lungs"
                )
        if self.truth is not None and not self.agreement.slices:
            raise UserError("--truth: it labels none of the slices that were read")

    def _algorithm(self) -> dict[str, Any]:
        return {
            "run": self.options.run,
            "temperature": self.classifier.temperature,
            "certain": self.classifier.min_probability,
            "distance_limit": self.classifier.max_distance,
            "stride": self.options.stride,
        }

    def _summary(self, patients: pd.DataFrame) -> dict[str, Any]:
        cut = ("size", "level", "width", "spacing", "coverage")
        # Without names, because a summary may be passed on. Patients are never pooled.
        rows = patients.to_dict("records")
        by_patient = [{key: row[key] for key in ("slices", *self.names)} for row in rows]
        shares = by_patient[0] if len(rows) == 1 else {}
        return {
            "notice": DISCLAIMER,
            "series": len(self.source.chosen),
            "slices": len(self.rows),
            "slices_without_windows": sum(not row["windows"] for row in self.rows),
            "windows": sum(row["windows"] for row in self.rows),
            "patches": len(self.tables["patches"]),
            "slices_with_truth": self.agreement.slices,
            "by_patient": by_patient,
            "shares": {
                name: shares[name] for name in self.names if np.isfinite(shares.get(name, np.nan))
            },
            "left_out": dict(sorted(self.problems.counts.items())),
            "noted": dict(sorted(self.problems.noted.items())),
            "previews": self.source.previews,
            "series_of_another_width": self.other_widths,
            "objects": {} if self.objects is None else dict(self.objects.counts),
            **self._algorithm(),
            "lung_mask": "threshold" if self.options.lung_masks is None else "given",
            "cut": {key: getattr(self.options.patches, key) for key in cut},
        }


def _save(figure: Figure, path: Path) -> None:
    save_figure(figure, path, suffixes=(".png",), dpi=110)


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    write_text(path, csv_text(table, float_format="%.6g"))
