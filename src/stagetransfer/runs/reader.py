"""Find and read run folders.

A run is finished if its folder holds metrics.json. A folder with config.yaml alone belongs to a run
that is still going on, was killed or has failed; after a failure, the first line of failure.txt
names the cause.
"""

import fcntl
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from stagetransfer.errors import UserError, is_shown, one_line
from stagetransfer.files import read_json, read_yaml
from stagetransfer.names import condition_of, is_folder_name
from stagetransfer.runs.predictions import read_predictions
from stagetransfer.runs.record_types import wrong_settings, wrong_types
from stagetransfer.runs.run import Run, UnfinishedRun
from stagetransfer.runs.verdict import judge
from stagetransfer.statistics.metrics import image_losses

CURE = "Leave the run out."
LONGEST = 100_000  # characters of a text; a remark of an earlier version names every class
# What a `Run` has under the same name as metrics.json; None if it is absent there.
OPTIONAL = (
    *("source_seed", "num_train_per_class", "splits"),
    *("search_rates", "identical_images", "num_validation"),
)


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders at `paths`, sorted by name.

    The paths are run folders, `runs` folders, outputs folders, or Hydra's sweep folders within an
    outputs folder, which mean all runs of that outputs folder. A run that is found in several
    places is returned once; a finished copy is preferred. UserError if a path holds no run, or if
    finished runs of one name have different predictions.
    """
    folders = dict.fromkeys(folder for path in paths for folder in _runs_at(path))
    found: dict[str, Path] = {}
    for folder in sorted(folders, key=is_finished, reverse=True):
        first = found.setdefault(folder.name, folder)
        if first != folder and is_finished(folder) and _predictions(first) != _predictions(folder):
            raise UserError(
                f"{folder.name}: {first.parent} and {folder.parent} have different predictions of "
                "this run. Give only one of the two"
            )
    return [found[name] for name in sorted(found)]


def read_runs(folders: Sequence[Path]) -> tuple[list[Run], list[UnfinishedRun]]:
    """Return the finished and the unfinished runs; UserError if a finished one is not readable."""
    finished = [_read_run(folder) for folder in folders if is_finished(folder)]
    unfinished = [_read_unfinished(folder) for folder in folders if not is_finished(folder)]
    return finished, unfinished


def is_finished(folder: Path) -> bool:
    """Return whether a run folder holds a result."""
    return (folder / "metrics.json").is_file()


def is_running(folder: Path) -> bool:
    """Return whether a process is training the run, and so holds its lock."""
    lock = folder.parent / ".locks" / f"{folder.name}.lock"
    with suppress(FileNotFoundError), lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of metrics.json; UserError if it is damaged, or a name in it unsafe.

    The folder may come from somebody else. Conditions, stages and keys become parts of paths, and
    all texts are shown.
    """
    file = folder / "metrics.json"
    record = read_json(file, CURE)
    check_texts(record, file)
    if wrong := next(wrong_types(record), None):
        raise UserError(f"{file}: {wrong}, which no run writes; the file was changed. {CURE}")
    with _understood(file):
        stages, classes = record["stages"], record["classes"]
        for name in (record["condition"], *record["chain"], *(one["key"] for one in stages)):
            if not is_folder_name(name):
                raise UserError(f"{file}: the name {name!r} could not name a folder. {CURE}")
        if not stages or not record["chain"]:
            raise ValueError("no stages or no chain")
        if len({*map(str.strip, classes)}) < max(len(classes), 2):
            raise ValueError("not two or more different classes")
        if any(len(name) > 200 for name in classes):
            raise ValueError("a class name of more than 200 characters")
        if not 0 < record["ratio"] <= 1 or ((record.get("splits") or {}).get("folds") or 0) > 1000:
            raise ValueError("a ratio that is not a share, or more than 1,000 folds")
        _ = f"{record['seed']:d} {stages[-1]['fingerprint']}"
    return record


def check_texts(content: Any, file: Path, depth: int = 0) -> None:
    """Raise UserError if a text of a received file could control a terminal or break a line."""
    if depth > 50:
        raise UserError(f"{file}: nested too deeply. {CURE}")
    if isinstance(content, str) and (not is_shown(content) or len(content) > LONGEST):
        raise UserError(
            f"{file}: {content[:80]!r} is too long, or holds a line break or control character. "
            f"{CURE}"
        )
    if isinstance(content, Mapping):
        check_texts([*content, *content.values()], file, depth)
    elif isinstance(content, Iterable) and not isinstance(content, str):
        for one in content:
            check_texts(one, file, depth + 1)


def _predictions(folder: Path) -> bytes | None:
    file = folder / "predictions.csv"
    return file.read_bytes() if file.is_file() else None


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
    record, file = read_record(folder), folder / "predictions.csv"
    tested = read_predictions(file, record["classes"])
    optional: dict[str, Any] = {name: record.get(name) for name in OPTIONAL}
    with _understood(folder / "metrics.json"):
        run = Run(
            **vars(tested),
            folder=folder,
            condition=record["condition"],
            chain=tuple(record["chain"]),
            ratio=round(float(record["ratio"]), 9),
            seed=int(record["seed"]),
            num_train=int(record["num_train"]),
            stages=tuple(record["stages"]),
            versions=record.get("versions", {}),
            config=_read_config(folder),
            blocks=_blocks(record),
            **optional,
        )
        accuracy, recorded = float((run.predicted == run.labels).mean()), record["test"]
        loss = float(image_losses(run.labels, run.probabilities).mean())
        if abs(accuracy - float(recorded["accuracy"])) > 1e-9 or not math.isclose(
            loss, float(recorded["cross_entropy"]), rel_tol=0.01, abs_tol=0.001
        ):
            raise UserError(
                f"{file}: its accuracy or cross-entropy is not that of metrics.json, so one of the "
                "two was changed. Run again with force=true."
            )
        return replace(run, verdict=judge(run))


def stage_blocks(stage: Mapping[str, Any], kind: str) -> list[str]:
    """Return the blocks of a stage's entry that were "carried", "reinitialised" or "frozen".

    In earlier versions, a block was a layer, and only the names of the tensors were recorded.
    """
    if (blocks := stage.get("blocks")) is not None:
        return [str(name) for name in blocks.get(kind, ())]
    return list(dict.fromkeys(str(name).rpartition(".")[0] for name in stage[kind]))


def _blocks(record: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the tensors of each block; of earlier versions, each layer is a block."""
    if "blocks" in record:
        return {str(name): tuple(map(str, own)) for name, own in record["blocks"].items()}
    last = record["stages"][-1]
    blocks: dict[str, tuple[str, ...]] = {}
    for name in (*last.get("carried", ()), *last.get("reinitialised", ())):
        layer = str(name).rpartition(".")[0]
        blocks[layer] = (*blocks.get(layer, ()), str(name))
    return blocks


@contextmanager
def _understood(file: Path) -> Iterator[None]:
    """Raise UserError in place of what the unexpected content of metrics.json leads to."""
    try:
        yield
    except KeyError as error:
        wrote = "another version of this package wrote it"
        cure = "Leave the run out, or run it again."
        raise UserError(f"{file}: no key {error}; {wrote}. {cure}") from error
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{file}: cannot be read ({error}). {CURE}") from error


def _read_unfinished(folder: Path) -> UnfinishedRun:
    why = None
    if (file := folder / "failure.txt").is_file():
        with file.open(encoding="utf-8", errors="replace") as text:
            lines = text.read(10_000).strip().splitlines()
        why = one_line(lines[0]) if lines else "failed, no cause was written"
    try:
        config = _read_config(folder)
        ratio = round(float(config["ratio"]), 9)
        condition = config["condition"] or condition_of(config["chain"])
        place = str(condition), ratio, int(config["seed"])
        return UnfinishedRun(folder, place if is_folder_name(place[0]) else None, why, config)
    except (UserError, KeyError, ValueError, TypeError):
        return UnfinishedRun(folder, None, why, {})


def _read_config(folder: Path) -> dict[str, Any]:
    """Return config.yaml with flat keys."""
    file = folder / "config.yaml"
    if not file.exists():
        raise UserError(f"{file}: missing, so its run cannot be compared. Restore it. {CURE}")
    content = read_yaml(file, CURE)
    check_texts(content, file)
    config = dict(_flat(content))
    if wrong := next(wrong_settings(config), None):
        raise UserError(f"{file}: {wrong}, which no run writes; the file was changed. {CURE}")
    return config


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
