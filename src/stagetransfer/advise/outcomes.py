"""What finished runs say about sources: their test results, and a prior for another target."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from stagetransfer.advise.candidates import chain_name
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.run import Run
from stagetransfer.runs.training_shares import is_whole, trained_on_labels
from stagetransfer.runs.tuning_depth import NETWORK, tuned_depth

COLUMNS = ("target", "network", "candidate", "seed", "recall")


def outcomes(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the macro recall on test images of each run with all training images as they are.

    Of a candidate's tuning depths, the one with the best validation recall counts. The columns are
    COLUMNS: the target is the fingerprint of its data; see `network_name` and `chain_name`. Runs
    that are `left_out` do not count.
    """
    rows = [
        {
            "target": run.fingerprint,
            "network": network_name(run.config),
            "candidate": chain_name(run.stages[:-1]),
            "seed": run.seed,
            "recall": run.metrics["recall"],
            "depth": str(tuned_depth(run)),
            "validation": run.health.get("recall"),
        }
        for run in runs
        if is_whole(run)
    ]
    found = pd.DataFrame(rows, columns=pd.Index([*COLUMNS, "depth", "validation"]))
    found["validation"] = found["validation"].astype(float)
    of_candidate = ["target", "network", "candidate"]
    means = found.groupby([*of_candidate, "depth"])["validation"].mean().reset_index()
    best = means.sort_values("validation", ascending=False).drop_duplicates(of_candidate)
    return found.merge(best[[*of_candidate, "depth"]])[list(COLUMNS)]


def left_out(runs: Sequence[Run]) -> list[str]:
    """Return a line on the runs whose source stages do not explain their result, if there are any.

    They were imported, or trained on the probabilities of other runs.
    """
    count = sum(not trained_on_labels(run) for run in runs)
    return [f"finished runs that were imported or trained with teachers: {count}"] if count else []


def network_name(config: Mapping[str, object]) -> str:
    """Return what tells networks apart: the library, the name and the variant in a flat config."""
    return " ".join(str(config.get(key)) for key in NETWORK)


def read_finished(folders: Sequence[Path]) -> list[Run]:
    """Return the finished runs in these outputs folders, if there are any."""
    held = [folder for folder in folders if any(folder.glob("runs/*/metrics.json"))]
    return read_runs(find_runs(held))[0]


def prior(found: pd.DataFrame, target: str) -> pd.Series:
    """Return the mean rank of each candidate on the other targets, from 0 (worst) to 1 (best).

    Targets with a single candidate say nothing and are left out.
    """
    others = found[found["target"] != target]
    recalls = others.groupby(["target", "network", "candidate"])["recall"].mean()
    by_target = recalls.groupby(["target", "network"])
    ranks = (by_target.rank() - 1) / (by_target.transform("count") - 1)
    return ranks.dropna().groupby("candidate").mean()
