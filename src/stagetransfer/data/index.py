"""A large tree of images is walked once: what was found is kept, and the tree watched for changes.

The index lies in the user's cache folder ($XDG_CACHE_HOME or ~/.cache, in stagetransfer/index/). It
is taken for the tree as long as none of the folders that were walked has another modification time
(a file that is added, removed or renamed changes its folder's) and none of some thousand files,
evenly spaced, has another size or time. A single file that is overwritten in place can escape that;
`index=false` walks anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagetransfer.data.compact_strings import Files, Names
from stagetransfer.data.layouts.folder_walk import visited
from stagetransfer.data.layouts.image_check import check_images
from stagetransfer.data.samples import SPLITS, Samples
from stagetransfer.files import atomic_path

WORTH = 10_000  # images; a smaller tree is walked in well under a second
_FILES = 4096  # that are looked at when an index is used
_SETTLED = 2_000_000_000  # ns; a change so soon after another might not show in a time
_FORMAT = 1

log = logging.getLogger(__name__)


def read_indexed(
    reader: Callable[..., Samples],
    layout: str,
    root: Path,
    options: Mapping[str, Any],
    *,
    check: bool,
) -> tuple[Samples, str]:
    """The samples and their fingerprint, from the index of an unchanged tree or from the tree.

    Args:
        reader: reads a tree in which all that counts is which files lie in which folders.
        layout: its name.
        options: what it is given.
        check: open every image; an index of a tree that was not checked does not do then.

    Raises:
        UserError: what the reader or the check raises.
    """
    path = _path(layout, root, options)
    found = _load(path, root, check)
    if found is not None:
        return found
    began = time.time_ns()
    with visited() as folders:
        samples = reader(root, **options)
    if check:
        check_images(samples)
    fingerprint = samples.fingerprint()
    if len(samples) >= WORTH:
        ids = Names.of(samples.ids)
        samples = replace(samples, ids=ids, images=Files(root, ids))
        inside = [str(folder.relative_to(root)) for folder in dict.fromkeys(folders)]
        _save(path, samples, fingerprint, root, inside, check, began)
    return samples, fingerprint


def _path(layout: str, root: Path, options: Mapping[str, Any]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    what = json.dumps([_FORMAT, layout, str(root.resolve()), dict(options)], sort_keys=True)
    name = hashlib.sha256(what.encode()).hexdigest()[:16]
    return cache / "stagetransfer" / "index" / f"{name}.npz"


def _load(path: Path, root: Path, check: bool) -> tuple[Samples, str] | None:
    """None if there is no index, or it is damaged, unchecked, or of a tree that has changed."""
    try:
        with np.load(path) as file:  # without pickle: an index is data
            head = json.loads(file["head"].tobytes())
            if check and not head["checked"]:
                return None
            ids = Names(file["text"], file["ends"])
            if not np.array_equal(_times(root, head["folders"]), file["folder_times"]):
                return None
            if not np.array_equal(_states(root, ids), file["file_states"]):
                return None
            return _samples(root, ids, head, file), str(head["fingerprint"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _samples(root: Path, ids: Names, head: Mapping[str, Any], file: Any) -> Samples:
    columns: dict[str, tuple[str, ...] | None] = {}
    for column in ("groups", "splits"):
        names = head[column]
        values = None if names is None else np.array(names, dtype=object)[file[column]]
        columns[column] = None if values is None else tuple(values.tolist())
    labels = file["labels"].astype(np.int64)
    return Samples(Files(root, ids), ids, labels, tuple(head["classes"]), **columns)


def _save(
    path: Path,
    samples: Samples,
    fingerprint: str,
    root: Path,
    folders: Sequence[str],
    checked: bool,
    began: int,
) -> None:
    assert isinstance(samples.ids, Names)
    times, states = _times(root, folders), _states(root, samples.ids)
    if max(times.max(), states[:, 1].max()) > began - _SETTLED:
        return  # the tree is just being changed
    if root.resolve() in path.resolve().parents:
        return  # nothing of ours is put among the images
    group_names, groups = _coded(samples.groups, None)
    split_names, splits = _coded(samples.splits, SPLITS)
    head = {
        "checked": checked,
        "fingerprint": fingerprint,
        "folders": list(folders),
        "classes": list(samples.classes),
        "groups": group_names,
        "splits": split_names,
    }
    try:
        with atomic_path(path) as part, part.open("wb") as file:
            np.savez(
                file,
                head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8),
                text=samples.ids.text,
                ends=samples.ids.ends,
                labels=samples.labels.astype(np.int32),
                groups=groups,
                splits=splits,
                folder_times=times,
                file_states=states,
            )
    except OSError as error:
        log.warning("%s: the index of %s can't be kept (%s)", path, root, error.strerror)


def _coded(
    column: Sequence[str] | None, names: Sequence[str] | None
) -> tuple[list[str] | None, NDArray[np.int32]]:
    """The different names, and the number of each row's; None for a column that is not there."""
    if column is None:
        return None, np.empty(0, dtype=np.int32)
    names = list(names or dict.fromkeys(column))
    number = {name: i for i, name in enumerate(names)}
    return names, np.array([number[name] for name in column], dtype=np.int32)


def _times(root: Path, folders: Sequence[str]) -> NDArray[np.int64]:
    return np.array([os.stat(f"{root}/{name}").st_mtime_ns for name in folders], dtype=np.int64)


def _states(root: Path, ids: Names) -> NDArray[np.int64]:
    """Size and time of modification of some files."""
    rows = np.unique(np.linspace(0, len(ids) - 1, _FILES).round().astype(np.int64))
    found = [os.stat(f"{root}/{name}") for name in ids.take(rows)]
    return np.array([(state.st_size, state.st_mtime_ns) for state in found], dtype=np.int64)
