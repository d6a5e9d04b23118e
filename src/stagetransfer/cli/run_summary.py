"""The summary that a run prints at its end: its stages, its metrics, and where its files are."""

import shlex
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from stagetransfer.files import read_json
from stagetransfer.names import CONDITIONS
from stagetransfer.runs.predictions import read_predictions
from stagetransfer.runs.reader import read_record, read_runs, stage_blocks


def print_summary(folder: Path, console: Console | None = None, *, alone: bool = True) -> None:
    """Print the summary of a finished run, from its files, in at most 80 columns.

    The first run of a folder is explained, if it is `alone` and no job of a sweep.
    """
    console = console or Console(highlight=False, markup=False)
    run = read_record(folder)
    console.print()
    console.print(
        f"{run['condition']}, r = {run['ratio']:g}, seed {run['seed']}: trained on "
        f"{run['num_train']} images{_worse(run)}, tested on "
        f"{run['num_test']}{_fold(run.get('splits'))}"
    )
    console.print(_stages(run["stages"]))
    console.print(_figures(run["test"]))
    if not (run["stages"][-1].get("health") or {"learned": True})["learned"]:
        console.print(_second_look(folder))
    console.print(f"run          {folder}", soft_wrap=True)
    console.print(f"tensorboard  tensorboard --logdir {folder.parent}", soft_wrap=True)
    if alone and len(list(folder.parent.glob("*/metrics.json"))) == 1:
        _explain(folder, run, console)


def _second_look(folder: Path) -> str:
    """Return what the test images say of a run whose validation images do not show learning."""
    (found,), _ = read_runs([folder])
    if found.learned:
        return "The test images show that it learned, so the report compares this run."
    return f"It did not learn ({found.verdict}), so the report does not compare this run."


def _explain(folder: Path, run: dict[str, Any], console: Console) -> None:
    """Print what the figures of a first run mean, and the command of a first comparison."""
    tested = read_predictions(folder / "predictions.csv", run["classes"])
    count, (_, low, high) = len(run["classes"]), tested.recall_interval()
    averaged = len({*tested.labels.tolist()})
    over = f"the {averaged} classes" + f" of {count} that have test images" * (averaged < count)
    console.print(
        f"\nPrecision, recall, F1 and AUROC are means over {over} (macro averages). "
        f"Guessing has a recall of {1 / count:.3f} and an AUROC of 0.5. With {len(tested.ids)} "
        f"test images, the 95\u00a0% interval of this run's recall is {low:.3f} to {high:.3f}."
    )
    file = folder / "overrides.yaml"  # which earlier versions did not write
    overrides = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else []
    kept = [word for word in overrides if not word.startswith(("+experiment=", "seed="))]
    conditions = list(CONDITIONS.values())
    if len(kept) < len(overrides) and run["condition"] in conditions:
        other = run["condition"] if run["condition"] != conditions[0] else conditions[-1]
        words = ["-m", f"+experiment={conditions[0]},{other}", "seed=0,1,2", *kept]
        console.print("This is one run. To learn whether the extra stages help, run")
        console.print(f"  python train.py {shlex.join(words)}", soft_wrap=True)


def print_stages(folder: Path) -> None:
    """Print the summary of a stored source stage and of the stages before it."""
    console = Console(highlight=False, markup=False)
    console.print()
    console.print(_stages(read_json(folder / "stage.json")["stages"]))
    console.print(f"stage        {folder}", soft_wrap=True)


def _fold(splits: dict[str, Any] | None) -> str:
    folds = splits and splits["folds"]
    return f" (fold {splits['fold']} of 0 to {folds - 1})" if splits and folds else ""


def _worse(run: dict[str, Any]) -> str:
    """Return how the training set was made worse on purpose, if it was."""
    found = []
    if wrong := run.get("num_wrong_labels"):
        found.append(f"{wrong} wrong labels")
    if tail := run.get("long_tail"):
        found.append(f"a long tail to {tail:g}")
    if strength := run.get("confounder"):
        found.append(f"a confounder of strength {strength:g}")
    return f" with {' and '.join(found)}" if found else ""


def _stages(stages: list[dict[str, Any]]) -> Table:
    table = Table()
    right = ("epochs", "s", "img/s")
    for name in ("stage", "from", "epochs", "s", "img/s", "learned", "carried", "new"):
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for stage in stages:
        reused, health = "store" if stage["reused"] else "trained", stage.get("health")
        table.add_row(
            stage["name"],
            "weights" if stage.get("weights") else reused,
            str(stage["epochs"]),
            f"{stage['seconds']:.0f}",
            f"{stage['images_per_second']:.0f}",
            f"{'yes' if health['learned'] else 'NO'} {health['recall']:.2f}" if health else "-",
            _span(stage, "carried")
            + (f"\nfrozen: {_span(stage, 'frozen')}" * bool(stage["frozen"])),
            _span(stage, "reinitialised"),
        )
    table.caption = "learned: with the macro recall on the validation images of the stage"
    return table


def _span(stage: dict[str, Any], kind: str) -> str:
    """Return the blocks of a stage that were "carried", for example, as a range."""
    blocks = stage_blocks(stage, kind) or ["-"]
    return blocks[0] if len(blocks) == 1 else f"{blocks[0]}-{blocks[-1]}"


def _figures(test: dict[str, float | None]) -> Table:
    table = Table()
    for name in test:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*("-" if value is None else f"{value:.4f}" for value in test.values()))
    return table
