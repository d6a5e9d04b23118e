"""Agreement of label maps with the truth: Dice coefficient and share of each class.

    Dice = 2 |A and B| / (|A| + |B|)

A are the pixels that are predicted as a class, and B are the pixels of that class. Both are counted
over all slices of a patient, and only where the truth is labelled, because the class of all other
pixels is unknown. A pixel of the truth that is marked, that was not read, or that lies outside the
lung mask, is in B but not in A.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer.inference.label_map import OUTSIDE, LabelMap
from stagetransfer.statistics import Interval, interval, resample

Counts = NDArray[np.int64]


def count_pixels(truth: LabelMap, labels: LabelMap, classes: int) -> Counts:
    """Return (C, C + 4) pixels by true class and by code: all codes, then outside the lung."""
    known, columns = truth != OUTSIDE, classes + 4
    found = np.where(labels == OUTSIDE, classes + 3, labels)[known].astype(np.int64)
    cells = truth[known].astype(np.int64) * columns + found
    return np.bincount(cells, minlength=classes * columns).reshape(classes, columns)


class Agreement:
    """Counts pixels slice by slice, for label maps with and without the two marks."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes, self.slices = tuple(classes), 0
        shape = (2, len(classes), len(classes) + 4)
        self._counts: defaultdict[str, Counts] = defaultdict(lambda: np.zeros(shape, np.int64))

    def add(self, patient: str, truth: LabelMap, labels: LabelMap, without_marks: LabelMap) -> None:
        """Count the pixels of one slice."""
        self.slices += 1
        maps, size = (labels, without_marks), len(self.classes)
        self._counts[patient] += [count_pixels(truth, found, size) for found in maps]

    @property
    def patients(self) -> list[str]:
        """The patients, sorted by name."""
        return sorted(self._counts)

    def table(self) -> pd.DataFrame:
        """Return one row per class, then one with the means over classes.

        The columns are the class's true and predicted shares, Dice with its 95 % interval over
        patients, the same without the marks, and the shares of its pixels that are marked, not read
        or outside the lung mask.
        """
        counts = self._stack()
        dice, forced = (self._intervals(counts[:, i]) for i in (0, 1))
        total, size = counts[:, 0].sum(0), len(self.classes)
        inside = total[:, : size + 2].sum()
        rows = []
        for i, name in enumerate((*self.classes, "mean")):
            is_class = i < size
            own = total[i] if is_class else total.sum(0)
            uncertain, unlike, not_read, outside = own[size:] / max(own.sum(), 1)
            rows.append(
                {
                    "class": name,
                    "true_share": own.sum() / total.sum() if is_class else np.nan,
                    "read_share": total[:, i].sum() / max(inside, 1) if is_class else np.nan,
                    **dice[i].clipped().columns("dice"),
                    **forced[i].clipped().columns("dice_forced"),
                    "uncertain": uncertain,
                    "unlike": unlike,
                    "not_read": not_read,
                    "outside_mask": outside,
                }
            )
        return pd.DataFrame(rows)

    def confusion(self) -> pd.DataFrame:
        """Return the pixels by true class (rows) and predicted class or mark."""
        columns = [*self.classes, "uncertain", "unlike", "not_read", "outside_mask"]
        total = self._stack()[:, 0].sum(0)
        return pd.DataFrame(total, index=pd.Index(self.classes, name="truth"), columns=columns)

    def _stack(self) -> Counts:
        return np.stack([self._counts[name] for name in self.patients])

    def _intervals(self, counts: Counts) -> list[Interval]:
        """Return Dice of each class (NaN if it does not occur in the truth), then their mean.

        The interval of a class whose truth is of a single patient is not estimable, nor is that of
        the mean.
        """
        patients = np.arange(len(counts))
        resamples = resample(0 * patients, patients, ["slice"], seeds=1)
        both = resamples.weights @ np.diagonal(counts, axis1=1, axis2=2)
        true = resamples.weights @ counts.sum(2)
        predicted = resamples.weights @ counts[:, :, : len(self.classes)].sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            dice = np.where(true > 0, 2 * both / (true + predicted), np.nan)
        holders = (counts.sum(2) > 0).sum(0)
        occur = holders > 0
        mean = dice[:, occur].mean(1) if occur.any() else np.full(len(dice), np.nan)
        columns = [*dice.T, mean]
        fewest = [*holders.tolist(), holders[occur].min(initial=len(patients))]
        return [
            interval(resamples, column[:, None])
            if number > 1
            else Interval(float(column[0]), np.nan, np.nan, np.nan, 1, False)
            for column, number in zip(columns, fewest, strict=True)
        ]
