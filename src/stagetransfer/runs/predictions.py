"""Read a table of predictions: predictions.csv of the test set, or validation.csv."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stagetransfer.errors import UserError
from stagetransfer.files import restored
from stagetransfer.statistics.metrics import Array, Integers


def read_predictions(
    file: Path, classes: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...] | None, Integers, Array]:
    """Return ids, groups, labels (n,) and probabilities (n, C) of a table of predictions.

    UserError if the file is missing or does not hold what a run with these classes writes there.
    """
    if not file.is_file():
        raise UserError(f"{file}: missing, but the run is finished. Run it again.")
    table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    for name in {"id", "group", "label"} & {*table}:
        table[name] = table[name].map(restored)
    columns = ["id", "group", "label", *(f"p_{name}" for name in classes)]
    if lacking := [name for name in columns if name not in table]:
        raise UserError(
            f"{file}: no column {', '.join(lacking)}. Each class of metrics.json needs a column "
            "p_<class>; restore the file, or run again with force=true."
        )
    if unknown := set(table["label"]) - set(classes):
        raise UserError(
            f"{file}: label {min(unknown)!r} is not among the classes in metrics.json. Restore the "
            "file, or run again with force=true."
        )
    if table.empty or table["id"].duplicated().any():
        raise UserError(f"{file}: empty, or an id occurs twice. Run again with force=true.")
    probabilities = table[columns[3:]].to_numpy(str).astype(np.float64)
    if not ((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all():
        raise UserError(f"{file}: a probability is not between 0 and 1. Run again with force=true.")
    known = table["group"] != ""
    if known.any() and not known.all():
        some = "some images have a group and some have none"
        raise UserError(f"{file}: {some}. Give every image a group, or none.")
    labels = pd.Index(classes).get_indexer(pd.Index(table["label"])).astype(np.int64)
    groups = tuple(table["group"]) if known.all() else None
    return tuple(table["id"]), groups, labels, probabilities
