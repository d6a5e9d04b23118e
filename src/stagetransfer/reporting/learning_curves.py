"""Learning curves of a run's target stage."""

from __future__ import annotations

import pandas as pd

from stagetransfer.runs.run import Run
from stagetransfer.runs.training_curves import validation_curve

TAGS = ("cross_entropy", "accuracy")


def learning_curve(run: Run) -> pd.DataFrame:
    """Return the columns `epoch` (from 1), `cross_entropy` (in nats) and `accuracy`.

    They are measured on the validation images. The table is empty if the run did not log both.
    """
    curve = validation_curve(run)
    columns = pd.Index(["epoch", *TAGS])
    if not set(columns) <= set(curve.columns):
        return pd.DataFrame(columns=columns, dtype=float)
    return curve[columns]
