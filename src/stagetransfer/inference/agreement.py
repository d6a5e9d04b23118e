"""How a map agrees with the truth: Dice by class, and class shares, over slices and patients.

    Dice = 2 |A and B| / (|A| + |B|)

with A the pixels that are read as a class and B those that are of it, over all slices of a patient,
on the pixels that the truth labels: what lies beside them is unknown, not wrong. A pixel of the
truth that is marked uncertain or unlike, or lies outside the lung mask, is one that B has and A
lacks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer.inference.label_map import Map
from stagetransfer.inference.window_labels import OUTSIDE
from stagetransfer.statistics import Interval, interval, resample

Counts = NDArray[np.int64]


def crossed(truth: Map, read: Map, classes: int) -> Counts:
    """(C, C + 3) pixels by truth and code read: the classes, the two marks, outside the lung."""
    known = truth != OUTSIDE
    found = np.where(read == OUTSIDE, classes + 2, read)[known].astype(np.int64)
    cells = truth[known].astype(np.int64) * (classes + 3) + found
    return np.bincount(cells, minlength=classes * (classes + 3)).reshape(classes, classes + 3)


class Agreement:
    """Gathers slices; `forced` is the same map without the two marks."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        size = len(self.classes)
        self.slices = 0
        self._read: defaultdict[str, Counts] = defaultdict(
            lambda: np.zeros((size, size + 3), np.int64)
        )
        self._forced = self._read.copy()

    def add(self, patient: str, truth: Map, read: Map, forced: Map) -> None:
        """Counts one slice's pixels."""
        self.slices += 1
        self._read[patient] += crossed(truth, read, len(self.classes))
        self._forced[patient] += crossed(truth, forced, len(self.classes))

    @property
    def patients(self) -> list[str]:
        """In the order of their names."""
        return sorted(self._read)

    def table(self) -> pd.DataFrame:
        """A row a class: its share by truth and as read, Dice with its 95 % interval over
        patients, and Dice without the marks; then a row of means over classes."""
        read = np.stack([self._read[name] for name in self.patients])
        forced = np.stack([self._forced[name] for name in self.patients])
        dice, plain = self._intervals(read), self._intervals(forced)
        whole, size = read.sum(0), len(self.classes)
        inside = whole[:, : size + 2].sum()
        rows = []
        for i, name in enumerate((*self.classes, "mean")):
            is_class = i < size
            rows.append(
                {
                    "class": name,
                    "true_share": whole[i].sum() / whole.sum() if is_class else np.nan,
                    "read_share": whole[:, i].sum() / max(inside, 1) if is_class else np.nan,
                    **_cells("dice", dice[i]),
                    **_cells("dice_forced", plain[i]),
                    "uncertain": _share(whole, i, size),
                    "unlike": _share(whole, i, size + 1),
                    "outside_mask": _share(whole, i, size + 2),
                }
            )
        return pd.DataFrame(rows)

    def confusion(self) -> pd.DataFrame:
        """Pixels by truth (rows) and what they were read as."""
        columns = [*self.classes, "uncertain", "unlike", "outside_mask"]
        total = np.sum([self._read[name] for name in self.patients], axis=0)
        return pd.DataFrame(total, index=pd.Index(self.classes, name="truth"), columns=columns)

    def _intervals(self, counts: Counts) -> list[Interval]:
        """Of each class (a class that is nowhere true has no figure), then of their mean."""
        people = np.arange(len(counts))
        resamples = resample(0 * people, people, ["slice"], seeds=1)
        both = resamples.weights @ np.diagonal(counts, axis1=1, axis2=2)
        true = resamples.weights @ counts.sum(2)
        read = resamples.weights @ counts[:, :, : len(self.classes)].sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            dice = np.where(true > 0, 2 * both / (true + read), np.nan)
        columns = [*dice.T, np.nanmean(dice, axis=1)]
        if len(people) > 1:
            return [interval(resamples, column[:, None]) for column in columns]
        return [Interval(float(c[0]), np.nan, np.nan, np.nan, 1, False) for c in columns]


def _cells(name: str, found: Interval) -> dict[str, float]:
    low, high = (float(np.clip(end, 0, 1)) for end in (found.low, found.high))
    return {name: found.estimate, f"{name}_low": low, f"{name}_high": high}


def _share(whole: Counts, row: int, column: int) -> float:
    part = whole[row : row + 1] if row < len(whole) else whole
    return float(part[:, column].sum() / max(part.sum(), 1))
