"""Writing the data set of an extraction: patches, tables and summary, all of them or nothing."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from stagetransfer.ct.patch_extraction import Extraction
from stagetransfer.ct.pseudonyms import pseudonym, read_salt
from stagetransfer.errors import UserError
from stagetransfer.files import atomic_folder, check_is_new, defused


def check_output_folder(out: Path, root: Path) -> None:
    """Raise UserError if `out` exists, or lies below the input `root`."""
    check_is_new(out, "--out")
    if root.resolve() in out.resolve().parents:
        raise UserError(f"{out}: lies within the input {root}. Give a folder outside it")


def write_dataset(extraction: Extraction, out: Path, salt: Path, *, skip_bad: bool = False) -> None:
    """Write the data set to the new folder `out`, which appears complete or not at all.

    The file `salt` holds the secret of the pseudonyms; it is created on first use. Problems of the
    input raise UserError unless `skip_bad` is set. No patch at all is a UserError.
    """
    extraction.problems.check(skip_bad)
    if not extraction.patches:
        raise UserError(
            "--annotations: no patch found. Check that the annotations name slices of the input, "
            "or reduce --size or --coverage"
        )
    check_is_new(out, "--out")
    secret = read_salt(salt)
    with atomic_folder(out) as part:
        _write(extraction, secret, part)


def _write(extraction: Extraction, salt: bytes, out: Path) -> None:
    name_of = partial(pseudonym, salt, "patient")
    split = any(patch.split for patch in extraction.patches)
    counts: Counter[str] = Counter()
    files, rows = [], []
    for patch in extraction.patches:
        patient, series = name_of(patch.patient), pseudonym(salt, "series", patch.series)
        file = f"{patient}/{series}-{patch.index:04d}-{counts[series]:05d}.png"
        counts[series] += 1
        files.append(file)
        (out / patient).mkdir(exist_ok=True)
        Image.fromarray(patch.image).save(out / file)
        spacing = "" if patch.spacing is None else f"{patch.spacing:.6g}"
        row = [file, patch.label, patient, series, patch.index, f"{patch.x:.2f}", f"{patch.y:.2f}"]
        rows.append([*row, spacing] + [patch.split] * split)
    header = ["file", "label", "patient", "series", "slice", "x", "y", "spacing"]
    # Sorted by file, because the order of the input may be that of the patients' names.
    _write_csv(out / "labels.csv", header + ["split"] * split, sorted(rows))
    labels = [patch.label for patch in extraction.patches]
    duplicates = [
        [one.kind, files[i], labels[i], files[j], labels[j], f"{one.share:.4f}"]
        for one in extraction.duplicates
        for i, j in [(one.first, one.second)]
    ]
    header = ["kind", "file", "label", "other_file", "other_label", "share"]
    _write_csv(out / "duplicates.csv", header, sorted(duplicates))
    text = json.dumps(summarise(extraction, name_of), indent=2, ensure_ascii=False)
    (out / "summary.json").write_text(text + "\n", encoding="utf-8")


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(
            map(defused, row) for row in [header, *rows]
        )


def summarise(extraction: Extraction, name_of: Callable[[str], str]) -> dict[str, Any]:
    """Return the content of summary.json: counts, what was left out, and the patch settings.

    Patients are shown and sorted by the names that `name_of` returns.
    """
    classes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for patch in extraction.patches:
        classes[patch.label][name_of(patch.patient)] += 1
    patients = sorted({patient for counts in classes.values() for patient in counts})
    kinds = Counter(one.kind for one in extraction.duplicates)
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
        "noted": dict(sorted(extraction.problems.noted.items())),
        "annotations_without_patch": len(extraction.without_patch),
        "series_without_annotation": extraction.unannotated,
        "other_files": extraction.other_files,
        "repeated_neighbours": extraction.repeated_neighbours,
        "same_place_dropped": kinds["same place"],
        "same_pixels": kinds["same pixels"],
        "classes_overlap": kinds["classes overlap"],
        "cut": asdict(extraction.settings),
    }
