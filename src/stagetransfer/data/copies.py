"""Images with the same pixels: in two splits, which makes a test easier, or under two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagetransfer.data.holdout import Rows
from stagetransfer.layouts.samples import Samples

_SHOWN = 20  # pairs in a record


@dataclass(frozen=True)
class Copies:
    """What images with the same pixels were found; each pair has the ids of two of them."""

    compared: bool  # False if the images were not decoded, so nothing is known
    across_splits: Sequence[tuple[str, str]] = ()  # the second one is in another split
    across_classes: Sequence[tuple[str, str]] = ()  # the second one is of another class

    @classmethod
    def among(
        cls, samples: Samples, rows: Mapping[str, Rows], digests: NDArray[np.uint64] | None
    ) -> Copies:
        """Compare the (N,) digests of all images; `rows` are those of each split."""
        if digests is None:
            return cls(False)
        split = np.full(len(samples), -1)
        for number, chosen in enumerate(rows.values()):
            split[chosen] = number
        used = np.flatnonzero(split >= 0)
        _, first, places = np.unique(digests[used], return_index=True, return_inverse=True)
        original = used[first[places]]  # of each image, the first one with its pixels

        def differing(column: NDArray[np.int64]) -> tuple[tuple[str, str], ...]:
            pairs = np.stack((original, used), axis=1)[column[original] != column[used]]
            return tuple((samples.ids[one], samples.ids[other]) for one, other in pairs.tolist())

        return cls(True, differing(split), differing(samples.labels))

    @property
    def lines(self) -> list[str]:
        """One sentence for each kind of copy that was found."""
        kinds = {
            "another split, which makes the test easier": self.across_splits,
            "another class, so one of the labels is wrong": self.across_classes,
        }
        return [
            f"{len(pairs)} image{'s have' if len(pairs) > 1 else ' has'} the same pixels as one in "
            f"{where}, such as {pairs[0][0]} and {pairs[0][1]}. Remove one of each"
            for where, pairs in kinds.items()
            if pairs
        ]

    def record(self) -> dict[str, Any] | None:
        """Return the numbers of pairs, and the first ones, for metrics.json."""
        if not self.compared:
            return None
        kinds = {"across_splits": self.across_splits, "across_classes": self.across_classes}
        counts = {name: len(pairs) for name, pairs in kinds.items()}
        return counts | {"pairs": {name: list(kinds[name][:_SHOWN]) for name in kinds}}
