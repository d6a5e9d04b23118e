"""Writes an extraction: patches, tables, summary; all of it or nothing."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from stagetransfer.ct.extraction import Extraction, Patch
from stagetransfer.ct.problems import BadInput
from stagetransfer.ct.pseudonyms import Pseudonyms, read_salt
from stagetransfer.errors import UserError
from stagetransfer.files import atomic_folder

SKIP = "--skip-bad"


def check_place(out: Path, root: Path) -> None:
    """Raises UserError unless `out` is free and not below the input `root`."""
    if out.exists() or out.is_symlink():
        raise UserError(f"{out}: is there already; give another folder or remove it")
    inside = root.resolve()
    if inside in out.resolve().parents:
        raise UserError(f"{out}: lies within the input {root}; give a folder outside it")


def write(extraction: Extraction, out: Path, salt: Path, *, skip_bad: bool = False) -> None:
    """Writes the data set into the new folder `out`, which appears whole or not at all.

    Args:
        salt: file of the secret that pseudonyms are made with; made on first use.
        skip_bad: go on although something is left out.

    Raises:
        BadInput: there are problems and `skip_bad` is not set.
        UserError: there is no patch, `out` exists, or can't be written.
    """
    refuse_problems(extraction, skip_bad)
    if not extraction.patches:
        raise UserError(
            "no patch found: annotations name no slice here, or --size and --coverage ask too much"
        )
    if out.exists() or out.is_symlink():
        raise UserError(f"{out}: is there already; give another folder or remove it")
    try:
        names = Pseudonyms(read_salt(salt))
        with atomic_folder(out) as part:
            _write(extraction, names, part)
    except OSError as error:
        raise UserError(f"{out}: can't be written ({error.strerror})") from error


def refuse_problems(extraction: Extraction, skip_bad: bool) -> None:
    """Raises BadInput if something was left out and the user didn't ask for that."""
    if extraction.problems.lines and not skip_bad:
        raise BadInput(extraction.problems.lines, SKIP)


def _write(extraction: Extraction, names: Pseudonyms, out: Path) -> None:
    files = _file_names(extraction.patches, names)
    split = any(patch.split for patch in extraction.patches)
    rows = []
    for file, patch in zip(files, extraction.patches, strict=True):
        patient, _, name = file.partition("/")
        (out / patient).mkdir(exist_ok=True)
        Image.fromarray(patch.image).save(out / file)
        row = [file, patch.label, patient, name.split("-")[0], patch.index]
        row += [f"{patch.x:.2f}", f"{patch.y:.2f}"]
        row += ["" if patch.spacing is None else f"{patch.spacing:.6g}"]
        rows.append(row + [patch.split] * split)
    header = ["file", "label", "patient", "series", "slice", "x", "y", "spacing"]
    # By file, not in the order of the input, which may be that of the patients' names.
    _table(out / "labels.csv", header + ["split"] * split, sorted(rows))
    labels = [patch.label for patch in extraction.patches]
    likenesses = [
        [one.kind, files[i], labels[i], files[j], labels[j], f"{one.share:.4f}"]
        for one in extraction.likenesses
        for i, j in [(one.first, one.second)]
    ]
    header = ["kind", "file", "label", "other_file", "other_label", "share"]
    _table(out / "duplicates.csv", header, sorted(likenesses))
    text = json.dumps(summary(extraction, names.patient), indent=2, ensure_ascii=False)
    (out / "summary.json").write_text(text + "\n", encoding="utf-8")


def _file_names(patches: tuple[Patch, ...], names: Pseudonyms) -> list[str]:
    counts: Counter[str] = Counter()
    files = []
    for patch in patches:
        patient, series = names.patient(patch.patient), names.series(patch.series)
        files.append(f"{patient}/{series}-{patch.index:04d}-{counts[series]:05d}.png")
        counts[series] += 1
    return files


def _table(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def summary(extraction: Extraction, name: Callable[[str], str]) -> dict[str, Any]:
    """Counts per class and patient, what was left out, and how the patches were cut.

    Args:
        name: gives each patient the name to show; they stand in the order of these names.
    """
    classes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for patch in extraction.patches:
        classes[patch.label][name(patch.patient)] += 1
    patients = sorted({patient for counts in classes.values() for patient in counts})
    kinds = Counter(one.kind for one in extraction.likenesses)
    return {
        "images": len(extraction.patches),
        "patients": len(patients),
        "classes": {
            label: {"images": counts.total(), "patients": len(counts)}
            for label, counts in sorted(classes.items())
        },
        "images_by_patient": {
            patient: {label: counts[patient] for label, counts in sorted(classes.items())}
            for patient in patients
        },
        "left_out": dict(sorted(extraction.problems.counts.items())),
        "annotations_without_patch": len(extraction.empty),
        "series_without_annotation": extraction.unannotated,
        "other_files": len(extraction.others),
        "same_place_dropped": kinds["same place"],
        "same_pixels": kinds["same pixels"],
        "classes_overlap": kinds["classes overlap"],
        "cut": asdict(extraction.cut),
    }
