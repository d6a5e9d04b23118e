"""Learning curves, from the TensorBoard files of a run's target stage."""

from __future__ import annotations

import pandas as pd
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from stagetransfer.runs.run import Run

TAGS = ("cross_entropy", "accuracy")


def learning_curve(run: Run) -> pd.DataFrame:
    """Columns `epoch` (from 1), `cross_entropy`, `accuracy` on validation data.

    Empty where the run has no such scalars. Of an epoch written twice, before and after a kill,
    the later counts.
    """
    folder = run.folder / "tensorboard" / f"{len(run.chain)}-{run.chain[-1]}"
    empty = pd.DataFrame(columns=pd.Index(["epoch", *TAGS]), dtype=float)
    if not folder.is_dir():
        return empty
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = ("epoch", *(f"validation/{name}" for name in TAGS))
    if not set(tags) <= set(events.Tags()["scalars"]):
        return empty
    scalars = [{event.step: event.value for event in events.Scalars(tag)} for tag in tags]
    steps = sorted(set.intersection(*(set(of_tag) for of_tag in scalars)))
    rows = [(int(scalars[0][s]) + 1, *(of_tag[s] for of_tag in scalars[1:])) for s in steps]
    table = pd.DataFrame(rows, columns=pd.Index(["epoch", *TAGS]))
    return table.drop_duplicates("epoch", keep="last").reset_index(drop=True)
