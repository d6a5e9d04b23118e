"""Find and read run folders.

A run is finished if its folder holds metrics.json. A folder with config.yaml alone belongs to a run
that is still going on, was killed or has failed; after a failure, the first line of failure.txt
names the cause.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.runs.predictions import read_predictions
from stagetransfer.runs.run import Run, UnfinishedRun
from stagetransfer.runs.verdict import judge


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders at `paths`, sorted by name.

    The paths are run folders, `runs` folders, outputs folders, or Hydra's sweep folders within an
    outputs folder, which mean all runs of that outputs folder. A run that is found in several
    places is returned once; a finished copy is preferred. UserError if a path holds no run.
    """
    folders = [folder for path in paths for folder in _runs_at(path)]
    best_first = sorted(folders, key=is_finished, reverse=True)
    found = {folder.name: folder for folder in reversed(best_first)}
    return [found[name] for name in sorted(found)]


def read_runs(folders: Sequence[Path]) -> tuple[list[Run], list[UnfinishedRun]]:
    """Return the finished and the unfinished runs; UserError if a finished one is not readable."""
    finished = [_read_run(folder) for folder in folders if is_finished(folder)]
    unfinished = [_read_unfinished(folder) for folder in folders if not is_finished(folder)]
    return finished, unfinished


def is_finished(folder: Path) -> bool:
    """Return whether a run folder holds a result."""
    return (folder / "metrics.json").is_file()


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of metrics.json; UserError if it is not JSON."""
    try:
        return read_json(folder / "metrics.json")
    except ValueError as error:
        raise _unreadable(folder, error) from error


def _runs_at(path: Path) -> list[Path]:
    if not path.is_dir():
        raise UserError(f"{path}: no such folder. Give run folders, runs/ or an outputs folder.")
    path = path.resolve()
    if _is_run(path):
        return [path]
    roots = [path, path / "runs"]
    if (path / "multirun.yaml").is_file():
        roots += [parent / "runs" for parent in path.parents]
    for root in roots:
        if root.is_dir() and (runs := [folder for folder in root.iterdir() if _is_run(folder)]):
            return runs
    raise UserError(f"{path}: holds no run. Give run folders, runs/ or an outputs folder.")


def _is_run(folder: Path) -> bool:
    files = "metrics.json", "config.yaml", "failure.txt"
    return not folder.name.startswith(".") and any((folder / name).is_file() for name in files)


def _read_run(folder: Path) -> Run:
    record = read_record(folder)
    try:
        classes = tuple(str(name) for name in record["classes"])
        ids, groups, labels, probabilities = read_predictions(folder / "predictions.csv", classes)
        accuracy = float(record["test"]["accuracy"])
        run = Run(
            folder=folder,
            condition=str(record["condition"]),
            chain=tuple(record["chain"]),
            ratio=round(float(record["ratio"]), 9),
            seed=int(record["seed"]),
            source_seed=record.get("source_seed"),
            classes=classes,
            ids=ids,
            groups=groups,
            labels=labels,
            probabilities=probabilities,
            num_train=int(record["num_train"]),
            num_train_per_class=record.get("num_train_per_class"),
            stages=tuple(record["stages"]),
            versions=record.get("versions", {}),
            config=dict(_flat(_read_yaml(folder / "config.yaml"))),
            splits=record.get("splits"),
            search_rates=record.get("search_rates"),
        )
        _ = run.fingerprint
    except KeyError as error:
        raise UserError(
            f"{folder / 'metrics.json'}: no key {error}; another version of this package wrote it. "
            "Leave the run out, or run it again."
        ) from error
    except (ValueError, TypeError, IndexError) as error:
        raise _unreadable(folder, error) from error
    if abs(float((probabilities.argmax(1) == labels).mean()) - accuracy) > 1e-9:
        raise UserError(
            f"{folder / 'predictions.csv'}: its accuracy is not that of metrics.json, so one of "
            "the two was changed. Run again with force=true."
        )
    return replace(run, verdict=judge(run))


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder / 'metrics.json'}: cannot be read ({error}). Leave the run out.")


def _read_unfinished(folder: Path) -> UnfinishedRun:
    cause = None
    if (file := folder / "failure.txt").is_file():
        lines = file.read_text("utf-8", "replace").strip().splitlines()
        cause = lines[0] if lines else "failed, no cause was written"
    try:
        config = _read_yaml(folder / "config.yaml")
        ratio = round(float(config["ratio"]), 9)
        place = str(config["condition"]), ratio, int(config["seed"])
        return UnfinishedRun(folder, place, cause, dict(_flat(config)))
    except (KeyError, ValueError, TypeError):
        return UnfinishedRun(folder, None, cause, {})


def _read_yaml(file: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, {} if there is no file; ValueError if it holds none."""
    try:
        content = yaml.safe_load(file.read_text("utf-8")) if file.is_file() else {}
    except yaml.YAMLError as error:
        raise ValueError(f"{file.name} is not YAML") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} holds no keys")
    return content


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
