"""Predictions of somebody else's model on the same test images, as a run that can be compared."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from stagetransfer.csv_records import records
from stagetransfer.errors import UserError
from stagetransfer.files import atomic_folder, check_is_new, read_yaml, write_text
from stagetransfer.names import is_folder_name
from stagetransfer.runs.predictions import FAR_FROM_1, Predictions, read_predictions
from stagetransfer.runs.reader import find_runs, read_record, read_runs
from stagetransfer.runs.writer import untrained_stage, write_result

# What metrics.json says of the images, and what an imported run shares with the one beside it.
SHARED = (
    *("ratio_by", "num_train", "num_train_per_class", "num_validation", "num_test"),
    *("num_test_groups", "identical_images", "splits"),
)


def import_run(
    table: Path, validation: Path | None, like: Path, condition: str, seed: int | None = None
) -> Path:
    """Make a run folder from tables of predictions, beside the run that it resembles; return it.

    The tables have the columns id and p_<class>, with the ids of the test and validation images of
    `like`; its labels and patients are taken. A column label must agree with them; further columns
    are ignored. UserError if the tables have other images or labels, or rows that are no
    probabilities, or if runs of this condition were trained here.

    Args:
        validation: without it, there is neither calibration nor an ensemble.
        like: a finished run of the same target, ratio and division.
        condition: the name of the new run's condition.
        seed: of the training that made the predictions; None: that of `like`.
    """
    if not is_folder_name(condition):
        raise UserError(
            f"--condition {condition}: use up to 100 letters, digits and _ . + - for the name"
        )
    folders = find_runs([like])
    finished, _ = read_runs(folders)
    if len(folders) > 1 or not finished:
        raise UserError(f"{like}: give the folder of one finished run")
    (run,) = finished
    record = read_record(run.folder)
    parts = {
        name: _predictions(file, run.folder / f"{name}.csv", run.classes)
        for name, file in (("validation", validation), ("predictions", table))
        if file is not None
    }
    for other in run.folder.parent.glob(f"{condition}-r*/metrics.json"):
        known = read_record(other.parent)
        if known["condition"] == condition and not known.get("imported"):
            raise UserError(
                f"--condition {condition}: {other.parent.name} is a run of it that was trained "
                "here. Give another name"
            )
    digest = hashlib.sha256(f"{run.name} {condition} {seed}".encode())
    for part in parts.values():
        digest.update(np.ascontiguousarray(part.probabilities).tobytes())
    key, seed = digest.hexdigest()[:16], run.seed if seed is None else seed
    folder = run.folder.parent / f"{condition}-r{run.ratio:g}-s{seed}-{key[:8]}"
    check_is_new(folder)
    chain = [run.chain[-1]]
    place = {"condition": condition, "chain": chain, "ratio": run.ratio, "seed": seed}
    stage = untrained_stage(chain[0], key, reused=False, fingerprint=run.fingerprint)
    data = {name: record[name] for name in SHARED if name in record}
    data |= {"imported": table.name, "kept": {"file": None}}
    settings = read_yaml(run.folder / "config.yaml")
    with atomic_folder(folder) as part_of_folder:
        settings = {**settings, **place, "imported": True}
        write_text(part_of_folder / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
        write_result(
            part_of_folder,
            place={**place, "source_seed": None},
            tested=parts["predictions"],
            validated=parts.get("validation"),
            data=data,
            stages=[stage],
        )
    return folder


def _predictions(file: Path, like: Path, classes: Sequence[str]) -> Predictions:
    """Return the probabilities of a table, in the order of the images in another run's table."""
    known = read_predictions(like, classes)
    columns = [f"p_{name}" for name in classes]
    lower = [name.lower() for name in columns]
    found: dict[str, list[float]] = {}
    own = {name: classes[label] for name, label in zip(known.ids, known.labels, strict=True)}
    unlike_labels: list[str] = []
    for line, row in records(file, ["id", *lower], "Give the CSV with the predictions."):
        name = row["id"]
        try:
            values = [float(row[column]) for column in lower]
        except ValueError as error:
            raise UserError(f"{file}, line {line}: {error}. Give a probability") from error
        if not (min(values) >= 0 and abs(sum(values) - 1) <= FAR_FROM_1):  # NaN is refused too
            raise UserError(
                f"{file}, line {line}: {', '.join(columns[:3])} ... are no probabilities, which "
                f"are 0 or more and add up to 1, but here to {sum(values):.4g}"
            )
        if name in found:
            raise UserError(f"{file}, line {line}: the id {name} stands there twice. Remove one")
        found[name] = values
        if row.get("label", own.get(name)) != own.get(name):
            unlike_labels.append(f"{row['label']!r} of {name}, which is {own.get(name)!r}")
    if unlike := {*own} ^ {*found}:
        raise UserError(
            f"{file}: its images are not those of {like}: {len({*own} - {*found})} are missing and "
            f"{len({*found} - {*own})} are not among them, such as {min(unlike)!r}. Give each once"
        )
    if unlike_labels:
        raise UserError(
            f"{file}: {len(unlike_labels)} labels are not those of {like}, such as "
            f"{unlike_labels[0]}. Correct the ids, or remove the column label"
        )
    probabilities = np.array([found[name] for name in known.ids])
    return replace(known, probabilities=probabilities / probabilities.sum(1, keepdims=True))
