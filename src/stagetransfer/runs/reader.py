"""Run folders, read: the finished ones whole, of the others what is known and why.

Finished means that metrics.json is there. A folder with config.yaml alone is unfinished: still
going on, killed, or failed; then failure.txt holds the cause in its first line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from stagetransfer.errors import UserError
from stagetransfer.files import read_json

Array = NDArray[np.float64]

MARKS = ("metrics.json", "config.yaml", "failure.txt")


@dataclass(frozen=True)
class Run:
    """A finished run. groups is None where none are known; labels (n,) are positions in `classes`,
    probabilities (n, C); config is flat: "recipe.epochs" -> 9. splits: digest, fold and folds of a
    split file, if there was one. folds: the runs that this one pools (`pool`), else none."""

    folder: Path
    condition: str
    chain: tuple[str, ...]
    ratio: float
    seed: int
    source_seed: int | None
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...] | None
    labels: NDArray[np.int64]
    probabilities: Array
    num_train: int
    num_train_per_class: Mapping[str, int] | None
    stages: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str]
    config: Mapping[str, Any]
    splits: Mapping[str, Any] | None = None
    folds: tuple[Run, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def parts(self) -> tuple[Run, ...]:
        """The runs that were trained: its folds', or itself."""
        return self.folds or (self,)

    @property
    def fold(self) -> int | None:
        """The fold that it was tested on, of a split file's."""
        return None if self.splits is None or self.folds else self.splits["fold"]

    @property
    def fingerprint(self) -> str:
        """Of the target domain's data."""
        return str(self.stages[-1]["fingerprint"])

    @property
    def place(self) -> tuple[str, float, int]:
        """Condition, ratio and seed: what a run is of."""
        return self.condition, self.ratio, self.seed


@dataclass(frozen=True)
class Unfinished:
    """A run without a result. place: condition, ratio, seed, if its config.yaml tells them.
    cause: of its failure, None if it did not fail. lacks: the folds that a pooled run still lacks,
    in words."""

    folder: Path
    place: tuple[str, float, int] | None
    cause: str | None
    config: Mapping[str, Any]
    lacks: str | None = None

    @property
    def said(self) -> str:
        """Why it has no result."""
        return self.lacks or (f"failed: {self.cause}" if self.cause else "unfinished")


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The run folders that are meant, each name once, sorted by name.

    paths: run folders, folders of run folders (`runs`), outputs folders, or Hydra's sweep folders
    within one: then all runs of that outputs folder. The same run in two places counts once, the
    finished one first. Raises UserError where there is none.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for folder in _runs_at(path):
            other = found.setdefault(folder.name, folder)
            if _is_finished(folder) and not _is_finished(other):
                found[folder.name] = folder
    return [found[name] for name in sorted(found)]


def read_runs(folders: Sequence[Path]) -> tuple[list[Run], list[Unfinished]]:
    """Finished and unfinished runs; UserError if a finished one is not whole."""
    finished = [_read(folder) for folder in folders if _is_finished(folder)]
    others = [_unfinished(folder) for folder in folders if not _is_finished(folder)]
    return finished, others


def _is_finished(folder: Path) -> bool:
    return (folder / "metrics.json").is_file()


def _is_run(folder: Path) -> bool:
    hidden = folder.name.startswith(".")
    return not hidden and any((folder / name).is_file() for name in MARKS)


def _runs_at(path: Path) -> list[Path]:
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; give run folders, runs/ or an outputs folder")
    path = path.resolve()
    if _is_run(path):
        return [path]
    roots = [path, path / "runs"]
    if (path / "multirun.yaml").is_file():
        roots += [parent / "runs" for parent in path.parents]
    for root in roots:
        if root.is_dir() and (runs := [folder for folder in root.iterdir() if _is_run(folder)]):
            return runs
    raise UserError(f"{path}: holds no run; give run folders, runs/ or an outputs folder")


def _read(folder: Path) -> Run:
    file = folder / "metrics.json"
    try:
        content = read_json(file)
        classes = tuple(str(name) for name in content["classes"])
        ids, groups, labels, probabilities = read_predictions(folder / "predictions.csv", classes)
        accuracy = float(content["test"]["accuracy"])
        run = Run(
            folder=folder,
            condition=str(content["condition"]),
            chain=tuple(content["chain"]),
            ratio=round(float(content["ratio"]), 9),
            seed=int(content["seed"]),
            source_seed=content.get("source_seed"),
            classes=classes,
            ids=ids,
            groups=groups,
            labels=labels,
            probabilities=probabilities,
            num_train=int(content["num_train"]),
            num_train_per_class=content.get("num_train_per_class"),
            stages=tuple(content["stages"]),
            versions=content.get("versions", {}),
            config=dict(_flat(_yaml(folder / "config.yaml"))),
            splits=content.get("splits"),
        )
        _ = run.fingerprint
    except KeyError as error:
        raise UserError(
            f"{file}: no key {error}; it is not of this version, leave the run out or run it anew"
        ) from error
    except (ValueError, TypeError, IndexError) as error:
        raise UserError(f"{file}: can't be read ({error}); leave the run out") from error
    if abs(float((probabilities.argmax(1) == labels).mean()) - accuracy) > 1e-9:
        raise UserError(
            f"{folder / 'predictions.csv'}: its accuracy is not that of metrics.json; one of the "
            "two was changed, run it anew with force=true"
        )
    return run


def read_predictions(
    file: Path, classes: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...] | None, NDArray[np.int64], Array]:
    """Ids, groups, labels (n,) and probabilities (n, C) of predictions.csv or validation.csv."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{file}: missing, but the run is finished; run it anew") from error
    columns = ["id", "group", "label", *(f"p_{name}" for name in classes)]
    if lacking := [name for name in columns if name not in table]:
        raise UserError(f"{file}: no column {', '.join(lacking)}; it must have one a class")
    if odd := set(table["label"]) - set(classes):
        raise UserError(f"{file}: label {min(odd)!r} is none of the classes in metrics.json")
    if table.empty or table["id"].duplicated().any():
        raise UserError(f"{file}: empty, or an id stands there twice; run it anew with force=true")
    probabilities = table[columns[3:]].to_numpy(str).astype(np.float64)
    if not ((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all():
        raise UserError(f"{file}: a probability does not lie in 0..1; run it anew with force=true")
    known = table["group"] != ""
    if known.any() and not known.all():
        raise UserError(f"{file}: some images have a group and some have none; give all or none")
    position = {name: i for i, name in enumerate(classes)}
    return (
        tuple(table["id"]),
        tuple(table["group"]) if known.all() else None,
        np.array([position[label] for label in table["label"]], np.int64),
        probabilities,
    )


def _unfinished(folder: Path) -> Unfinished:
    cause = None
    if (folder / "failure.txt").is_file():
        lines = (folder / "failure.txt").read_text("utf-8", "replace").strip().splitlines()
        cause = lines[0] if lines else "failed, no cause was written"
    try:
        config = _yaml(folder / "config.yaml")
        ratio = round(float(config["ratio"]), 9)
        place = str(config["condition"]), ratio, int(config["seed"])
        return Unfinished(folder, place, cause, dict(_flat(config)))
    except (KeyError, ValueError, TypeError):
        return Unfinished(folder, None, cause, {})


def _yaml(file: Path) -> dict[str, Any]:
    """A YAML file's mapping, {} if there is no file; ValueError if it is none."""
    try:
        content = yaml.safe_load(file.read_text("utf-8")) if file.is_file() else {}
    except yaml.YAMLError as error:
        raise ValueError(f"{file.name} is no YAML") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} holds no keys")
    return content


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
