"""A domain's images, cut into training, validation and test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stagetransfer.data import splits
from stagetransfer.data.samples import Samples
from stagetransfer.errors import UserError

Rows = NDArray[np.int64]


def cut(
    samples: Samples,
    *,
    test_share: float | None,
    validation_share: float,
    by: str,
    seed: int,
    name: str,
) -> dict[str, Rows]:
    """Rows of "train", "validation" and "test": the publisher's, or cut from those for training.

    Args:
        test_share: share in (0, 1) of the images, None: no test set is cut (it may be empty).
        validation_share: share in (0, 1) of what is left.
        by: "group", where groups are known none is cut through; or "image".
        seed: draws the cuts.
        name: the domain's key in the config, for messages.

    Raises:
        UserError: there is no training split, or a class has too few groups or images.
    """
    labels, groups = samples.labels, samples.groups
    by_group = np.array(groups) if groups is not None and by == "group" else None
    rows = splits.official(samples)
    found = rows.get("train", np.arange(len(samples)) if not rows else None)
    if found is None:
        raise UserError(f"domain.{name}: there is no training split, only {', '.join(rows)}")

    def hold_out(train: Rows, share: float, what: str) -> tuple[Rows, Rows]:
        kept, held = splits.hold_out(
            labels[train],
            None if by_group is None else by_group[train],
            share,
            seed,
            classes=samples.classes,
            what=what,
            hint=f"domain.{name}.split_by=image",
        )
        return train[kept], train[held]

    train, test, validation = found, rows.get("test"), rows.get("validation")
    if test is None and test_share is not None:
        train, test = hold_out(train, test_share, "test")
    if validation is None:
        train, validation = hold_out(train, validation_share, "validation")
    empty = np.array([], dtype=np.int64)
    return {"train": train, "validation": validation, "test": empty if test is None else test}
