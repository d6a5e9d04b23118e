"""Predictions of a network, and their tables: predictions.csv (test set), validation.csv."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stagetransfer.errors import UserError
from stagetransfer.files import restored
from stagetransfer.statistics import macro_recall_interval
from stagetransfer.statistics.metrics import Array, Integers

CURE = "Restore the file, or run again with force=true."
FAR_FROM_1 = 0.01  # of the sum of an image's probabilities


@dataclass(frozen=True)
class Predictions:
    """The predictions of a network for n images with unique ids, and their labels."""

    ids: Sequence[str]
    groups: Sequence[str] | None  # patient, sample or video of each image, if known
    labels: Integers  # (n,), positions in `classes`
    probabilities: Array  # (n, C)
    classes: tuple[str, ...]

    @property
    def predicted(self) -> Integers:
        """The predicted classes (n,)."""
        return np.asarray(self.probabilities.argmax(1))

    def recall_interval(self) -> tuple[float, float, float]:
        """Return the macro recall, and the ends of its 95 % interval."""
        return macro_recall_interval(self.labels, self.predicted, self.groups, len(self.classes))

    def table(self) -> pd.DataFrame:
        """Return one row per image: id, group, label, prediction, and p_<class> of each class."""
        columns = {
            "id": list(self.ids),
            "group": "" if self.groups is None else list(self.groups),
            "label": [self.classes[i] for i in self.labels],
            "prediction": [self.classes[i] for i in self.predicted],
            **{f"p_{name}": self.probabilities[:, i] for i, name in enumerate(self.classes)},
        }
        return pd.DataFrame(columns)


def read_predictions(file: Path, classes: Sequence[str], count: int | None = None) -> Predictions:
    """Return the predictions in a table.

    UserError if the file is missing or does not hold what a run with these classes writes there, or
    has another number of images than `count`.
    """
    if not file.is_file():
        raise UserError(f"{file}: missing, but the run is finished. Run it again.")
    try:
        table = pd.read_csv(
            file, dtype=str, keep_default_na=False, encoding="utf-8", index_col=False
        )
    except ValueError as error:  # pandas' errors, and bytes that are not UTF-8
        raise UserError(f"{file}: cannot be read ({str(error).strip()}). {CURE}") from error
    for name in {"id", "group", "label"} & {*table}:
        table[name] = table[name].map(restored)
    columns = ["id", "group", "label", *(f"p_{name}" for name in classes)]
    if lacking := [name for name in columns if name not in table]:
        raise UserError(
            f"{file}: no column {', '.join(lacking)}. Each class of metrics.json needs a column "
            f"p_<class>. {CURE}"
        )
    if further := sorted({name for name in map(str, table) if name.startswith("p_")} - {*columns}):
        raise UserError(f"{file}: {further[0]} is of no class in metrics.json. {CURE}")
    if unknown := set(table["label"]) - set(classes):
        raise UserError(
            f"{file}: label {min(unknown)!r} is not among the classes in metrics.json. {CURE}"
        )
    if table.empty or table["id"].duplicated().any():
        raise UserError(f"{file}: empty, or an id occurs twice. {CURE}")
    if count is not None and len(table) != count:
        raise UserError(f"{file}: {len(table)} images, metrics.json has {count}. {CURE}")
    try:
        probabilities = table[columns[3:]].to_numpy(str).astype(np.float64)
    except ValueError as error:
        raise UserError(f"{file}: {error}. {CURE}") from error
    if not ((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all():
        raise UserError(f"{file}: a probability is not between 0 and 1. {CURE}")
    if (worst := np.abs(probabilities.sum(1) - 1)).max() > FAR_FROM_1:
        row = table["id"][int(worst.argmax())]
        raise UserError(f"{file}: the probabilities of {row!r} do not add up to 1. {CURE}")
    known = table["group"] != ""
    if known.any() and not known.all():
        some = "some images have a group and some have none"
        raise UserError(f"{file}: {some}. Give every image a group, or none.")
    labels = pd.Index(classes).get_indexer(pd.Index(table["label"])).astype(np.int64)
    groups = tuple(table["group"]) if known.all() else None
    return Predictions(tuple(table["id"]), groups, labels, probabilities, tuple(classes))
