"""The second opinion on an input, from reading to the files it leaves; all of them or none.

out/shares.csv     a row a slice: windows, pixels of the lung, share of each class and mark
out/windows.csv    a row a window: place, opinion, distance, calibrated probabilities
out/patches.csv    a row a patch, where the input holds patches
out/SS-NNNN.png    slice NNNN of series SS with its map, or a patch's picture
out/reason-....png where asked
out/SS.seg.dcm     where asked, a SEG a DICOM series
out/dice.csv, confusion.csv   where the truth is given
out/summary.json   what was read, how, and what was left out
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from stagetransfer.ct.problems import BadInput, Problems, relative
from stagetransfer.ct.regions import Annotations
from stagetransfer.ct.volume import UnreadableSlice, Volume
from stagetransfer.data.images import decode
from stagetransfer.errors import UserError
from stagetransfer.figures import save_figure
from stagetransfer.files import atomic_folder, write_json
from stagetransfer.inference.agreement import Agreement
from stagetransfer.inference.calibrated_classifier import Judge
from stagetransfer.inference.explanation import explain
from stagetransfer.inference.given_masks import lung_masks, masks_by_slice, truth_by_slice, truths
from stagetransfer.inference.inputs import Source
from stagetransfer.inference.label_map import Map
from stagetransfer.inference.lung_mask import lung_mask
from stagetransfer.inference.overlay import patch_page, slice_page
from stagetransfer.inference.read_slice import Opinion, prepare, read_slice
from stagetransfer.inference.request import Ask, Crop
from stagetransfer.inference.result_tables import (
    Place,
    share_row,
    total_shares,
    verdict_table,
    window_table,
)
from stagetransfer.inference.window_labels import NOTICE

SKIP = "--skip-bad"


def write_opinion(
    judge: Judge,
    source: Source,
    out: Path,
    ask: Ask,
    problems: Problems,
    *,
    run: str,
    crop: Crop,
    skip_bad: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Reads all of the source into the new folder `out`; the content of its summary.json.

    Args:
        problems: what was found wrong so far; takes what comes to light.
        run: the run's name.
        skip_bad: go on although something is left out.
        tell: hears of each slice and patch that is read.

    Raises:
        BadInput: there are problems and `skip_bad` is not set.
        UserError: `out` exists or can't be written, nothing is left to read, or something asked
            for is not there.
    """
    work = _Work(judge, source, ask, problems, run, skip_bad, tell)
    work.check()
    if out.exists() or out.is_symlink():
        raise UserError(f"{out}: is there already; give another folder by --out, or remove it")
    with _whole(out) as part:
        for number in source.chosen:
            work.read_series(part, number)
        work.read_patches(part, crop)
        return work.finish(part)


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    try:
        with atomic_folder(out) as part:
            yield part
    except OSError as error:
        raise UserError(f"{out}: can't be written ({error.strerror or error})") from error


class _Work:
    def __init__(
        self,
        judge: Judge,
        source: Source,
        ask: Ask,
        problems: Problems,
        run: str,
        skip_bad: bool,
        tell: Callable[[str], None],
    ) -> None:
        self.judge, self.source, self.ask, self.problems = judge, source, ask, problems
        self.run, self.skip_bad, self.tell = run, skip_bad, tell
        volumes = source.volumes
        self.masks: Annotations | None = (
            None if ask.mask is None else lung_masks(ask.mask, volumes, problems)
        )
        self.truths: Annotations | None = (
            None if ask.truth is None else truths(ask.truth, volumes, ask.labels, problems)
        )
        self.agreement = Agreement(judge.classes)
        self.rows: list[dict[str, Any]] = []
        self.windows: list[pd.DataFrame] = []
        self.patches: list[pd.DataFrame] = []
        self.reasons = 0
        self.segmented = 0

    def check(self) -> None:
        """Raises BadInput for problems that the user did not ask to leave out."""
        if self.problems.lines and not self.skip_bad:
            raise BadInput(self.problems.lines, SKIP)

    def read_series(self, part: Path, number: int) -> None:
        volume = self.source.volumes[number]
        masks = None if self.masks is None else masks_by_slice(self.masks, number, volume)
        known: dict[int, Map] = {}
        if self.truths is not None:
            classes = self.judge.classes
            known = truth_by_slice(self.truths, number, volume, classes, self.problems)
        self.check()
        maps: dict[Path, Map] = {}
        for index in self._indices(volume):
            place = Place(volume.files[index], number + 1, index)
            try:
                hu = volume.plane(index)
            except UnreadableSlice as error:
                self.problems.add("unreadable slices", volume.files[index], str(error))
                self.check()
                continue
            none = np.zeros(volume.shape, np.bool_)
            lung = lung_mask(hu, volume.spacing) if masks is None else masks.get(index, none)
            ask = self.ask
            opinion = read_slice(
                *(self.judge, hu, lung, volume.spacing, ask.cut),
                stride=ask.stride,
                batch=ask.batch,
            )
            self._keep(part, place, volume, opinion, known.get(index))
            self._explain(part, place, hu, opinion, volume)
            maps[self.source.path(volume, index)] = opinion.read
        if self.ask.seg and volume.sops[0]:
            self._segment(part / f"{number + 1:02d}.seg.dcm", maps, 9000 + number)

    def _indices(self, volume: Volume) -> list[int]:
        wanted = self.ask.slices or tuple(range(len(volume)))
        beyond = [index for index in wanted if not 0 <= index < len(volume)]
        if beyond:
            raise UserError(
                f"--slice {beyond[0]}: {volume.where} has the slices 0 to {len(volume) - 1}"
            )
        return list(wanted)

    def _keep(
        self, part: Path, place: Place, volume: Volume, opinion: Opinion, truth: Map | None
    ) -> None:
        names = self.judge.codes
        row = share_row(place, opinion, names)
        self.rows.append(row)
        self.windows.append(window_table(place, opinion, names))
        if truth is not None:
            self.agreement.add(volume.patient, truth, opinion.read, opinion.forced)
        self.tell(f"series {place.series} slice {place.index}: {len(opinion.verdicts)} windows")
        if len(opinion.verdicts):
            title = f"{self.run}: series {place.series}, slice {place.index}"
            page = slice_page(opinion, names, row, title, truth)
            save_figure(page, part / f"{place.stem}", suffixes=(".png",), dpi=110)

    def _explain(
        self, part: Path, place: Place, hu: NDArray[np.float64], opinion: Opinion, volume: Volume
    ) -> None:
        if not self.ask.reasons or not len(opinion.verdicts):
            return
        sheet = prepare(hu, opinion.lung, volume.spacing, self.ask.cut, self.ask.stride)
        for wanted in self.ask.reasons:
            page, (x, y) = explain(self.judge, sheet, opinion, wanted, place.index)
            save_figure(
                page, part / f"reason-{place.stem}-{x:g}-{y:g}", suffixes=(".png",), dpi=110
            )
            self.reasons += 1

    def _segment(self, path: Path, maps: dict[Path, Map], number: int) -> None:
        try:
            from stagetransfer.inference.dicom_seg import write_segmentation
        except ModuleNotFoundError as error:
            raise UserError(
                f'no module {error.name}; install it by pip install "stagetransfer[predict]"'
            ) from error
        write_segmentation(path, maps, self.judge.codes, self.run, number)
        self.segmented += 1

    def read_patches(self, part: Path, crop: Crop) -> None:
        for number, path in enumerate(self.source.patches, 1):
            where = relative(path, self.source.root)
            try:
                image = decode(path, crop.side, crop.fit)
            except UserError as error:
                self.problems.add("unreadable files", where, str(error))
                self.check()
                continue
            pixels = torch.from_numpy(image.copy())
            stack = pixels[None, None] if image.ndim == 2 else pixels.permute(2, 0, 1)[None]
            verdicts = self.judge([stack])
            names = self.judge.codes
            table = verdict_table(verdicts, names)
            table.insert(0, "file", where)
            self.patches.append(table)
            said = names[verdicts.codes[0]]
            self.tell(f"patch {number}: {said}")
            title = f"{self.run}: patch {number}"
            page = patch_page(image, self.judge.classes, verdicts.probabilities[0], said, title)
            save_figure(page, part / f"patch-{number:04d}", suffixes=(".png",), dpi=110)

    def finish(self, part: Path) -> dict[str, Any]:
        if not self.rows and not self.patches:
            raise UserError("nothing was read: all of the input was left out, see above")
        if self.ask.seg and not self.segmented:
            raise UserError("--seg: no DICOM series was read; NIfTI and PNG have none to refer to")
        if self.ask.reasons and not self.reasons:
            raise UserError("--reason: no window was read; there is nothing to explain")
        if self.truths is not None and not self.agreement.slices:
            raise UserError("--truth: labels none of the slices that were read")
        if self.rows:
            _table(pd.DataFrame(self.rows), part / "shares.csv")
            _table(pd.concat(self.windows), part / "windows.csv")
        if self.patches:
            _table(pd.concat(self.patches), part / "patches.csv")
        if self.agreement.slices:
            _table(self.agreement.table(), part / "dice.csv")
            self.agreement.confusion().to_csv(part / "confusion.csv")
        judge, ask = self.judge, self.ask
        summary = {
            "notice": NOTICE,
            "run": self.run,
            "series": len(self.source.chosen),
            "slices": len(self.rows),
            "slices_without_windows": sum(not row["windows"] for row in self.rows),
            "windows": sum(row["windows"] for row in self.rows),
            "patches": len(self.patches),
            "slices_with_truth": self.agreement.slices,
            "shares": total_shares(self.rows, judge.codes),
            "left_out": dict(sorted(self.problems.counts.items())),
            "temperature": judge.temperature,
            "certain": judge.certain,
            "distance_limit": judge.limit,
            "stride": ask.stride,
            "lung_mask": "threshold" if ask.mask is None else "given",
            "cut": {k: v for k, v in asdict(ask.cut).items() if k in _TOLD},
        }
        write_json(part / "summary.json", summary)
        return summary


_TOLD = ("size", "level", "width", "spacing", "coverage")


def _table(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, float_format="%.6g")
