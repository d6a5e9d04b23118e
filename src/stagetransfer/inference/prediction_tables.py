"""Predictions of windows, patches and slices as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stagetransfer.inference.calibrated_classifier import WindowPredictions
from stagetransfer.inference.label_map import label_shares
from stagetransfer.inference.slice_prediction import SlicePrediction


@dataclass(frozen=True)
class SliceLocation:
    """A slice of the input."""

    file: str  # below the input
    series: int  # number of its series in this call, from 1
    index: int  # number of the slice in the series, from 0

    @property
    def stem(self) -> str:
        """The stem of its file names, for example 01-0012."""
        return f"{self.series:02d}-{self.index:04d}"

    @property
    def cells(self) -> dict[str, Any]:
        """The first columns of every table."""
        return {"file": self.file, "series": self.series, "slice": self.index}


def prediction_table(predictions: WindowPredictions, names: Sequence[str]) -> pd.DataFrame:
    """Return opinion (class or mark), class (the most probable), distance, p_<class> per window."""
    classes = names[: predictions.probabilities.shape[1]]
    return pd.DataFrame(
        {
            "opinion": [names[code] for code in predictions.codes],
            "class": [classes[code] for code in predictions.most_probable],
            "distance": predictions.distances,
            **{f"p_{name}": predictions.probabilities[:, i] for i, name in enumerate(classes)},
        }
    )


def window_table(
    location: SliceLocation, prediction: SlicePrediction, names: Sequence[str]
) -> pd.DataFrame:
    """Return one row per window: its slice, x and y of its centre, and its prediction."""
    table = prediction_table(prediction.predictions, names)
    x, y = prediction.centres.T
    for position, (name, values) in enumerate({**location.cells, "x": x, "y": y}.items()):
        table.insert(position, name, values)
    return table


def share_row(
    location: SliceLocation, prediction: SlicePrediction, names: Sequence[str]
) -> dict[str, Any]:
    """Return one slice's number of windows, lung pixels, and the share of each code in these."""
    return {
        **location.cells,
        "windows": len(prediction.predictions),
        "lung_pixels": int(prediction.lung.sum()),
        **label_shares(prediction.labels, names),
    }


def total_shares(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """Return the share of each code in the lung pixels of all slices that have windows."""
    read = [row for row in rows if row["windows"]]
    pixels = sum(row["lung_pixels"] for row in read)
    if not pixels:
        return {}
    return {name: sum(row[name] * row["lung_pixels"] for row in read) / pixels for name in names}
