"""An index of a large folder tree: the tree is read once, and again only after it has changed.

The index is a file in the user's cache folder, stagetransfer/index/ below $XDG_CACHE_HOME or
~/.cache. It is valid while all folders of the tree keep their modification time (a file that is
added, removed or renamed changes that of its folder), and its files keep their size and time. Of a
tree whose images are not checked, about 4,000 files are compared, evenly spaced: a single one that
is overwritten in place can be missed, which is logged; `index=false` reads the tree again.
"""

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

from stagetransfer.files import atomic_path
from stagetransfer.layouts.compact_strings import FilePaths, PackedStrings
from stagetransfer.layouts.folder_walk import visited
from stagetransfer.layouts.image_check import check_images
from stagetransfer.layouts.sample_arrays import Digests, from_arrays, read_head, to_arrays
from stagetransfer.layouts.samples import Samples

MINIMUM = 10_000  # images; a smaller tree is read in well under a second
_FILES = 4096  # number of files that are compared in a tree that was not checked
_SETTLED = 2_000_000_000  # ns; a later change within this time might not change the file's time
_FORMAT = 3

log = logging.getLogger(__name__)


def read_indexed(
    reader: Callable[..., Samples], layout: str, root: Path, options: Mapping[str, Any], check: bool
) -> tuple[Samples, str, Digests | None]:
    """Return samples, fingerprint and digests, from the index of an unchanged tree or the tree.

    The reader is that of a layout in `TREES`. With `check`, every image is decoded once, and the
    index of a tree that was not checked is not used; without it, there are no digests.
    """
    path = _index_path(layout, root, options)
    if (found := _load(path, root, check)) is not None:
        log.info(
            "%s: %d images as in the index. Of these, %d files were compared by size and time; "
            "index=false reads all of them again",
            *(root, len(found[0]), len(_compared(len(found[0]), found[2] is not None))),
        )
        return found
    began = time.time_ns()
    with visited() as folders:
        samples = reader(root, **options)
    digests = check_images(samples) if check else None
    fingerprint = samples.fingerprint(digests)
    if len(samples) >= MINIMUM:
        ids = PackedStrings.of(samples.ids)
        samples = replace(samples, ids=ids, images=FilePaths(root, ids))
        inside = [str(folder.relative_to(root)) for folder in dict.fromkeys(folders)]
        head = {"checked": check, "fingerprint": fingerprint, "folders": inside}
        _save(path, samples, digests, root, head, began)
    return samples, fingerprint, digests


def _index_path(layout: str, root: Path, options: Mapping[str, Any]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    text = json.dumps([_FORMAT, layout, str(root.resolve()), dict(options)], sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return cache / "stagetransfer" / "index" / f"{name}.npz"


def _load(path: Path, root: Path, check: bool) -> tuple[Samples, str, Digests | None] | None:
    """Return None without an index that is whole, of an unchanged tree, and checked if need be."""
    try:
        with np.load(path) as file:  # without pickle: an index is only data
            head = read_head(file)
            if check and not head["checked"]:
                return None
            ids = PackedStrings(file["text"], file["ends"])
            if not np.array_equal(_folder_times(root, head["folders"]), file["folder_times"]):
                return None
            if not np.array_equal(_file_states(root, ids, head["checked"]), file["file_states"]):
                return None
            samples = from_arrays(file, FilePaths(root, ids))
            digests = file["digests"].astype(np.uint64) if head["checked"] else None
            return samples, str(head["fingerprint"]), digests
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _save(
    path: Path,
    samples: Samples,
    digests: Digests | None,
    root: Path,
    head: dict[str, Any],
    began: int,
) -> None:
    assert isinstance(samples.ids, PackedStrings)
    times = _folder_times(root, head["folders"])
    states = _file_states(root, samples.ids, head["checked"])
    if max(times.max(), states[:, 1].max()) > began - _SETTLED:
        return  # the tree is still being changed
    if root.resolve() in path.resolve().parents:
        return  # never write among the images
    try:
        with atomic_path(path) as part, part.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                **to_arrays(samples, digests, head),
                folder_times=times,
                file_states=states,
            )
    except OSError as error:
        log.warning("%s: cannot write the index of %s (%s)", path, root, error.strerror)


def _folder_times(root: Path, folders: Sequence[str]) -> NDArray[np.int64]:
    return np.array([os.stat(f"{root}/{name}").st_mtime_ns for name in folders], dtype=np.int64)


def _compared(count: int, checked: bool) -> NDArray[np.int64]:
    """Return the rows of the files whose states are compared: all, or some, evenly spaced."""
    number = count if checked else min(_FILES, count)
    return np.unique(np.linspace(0, count - 1, number).round().astype(np.int64))


def _file_states(root: Path, ids: PackedStrings, checked: bool) -> NDArray[np.int64]:
    """Return size and modification time of the files that are compared."""
    rows = _compared(len(ids), checked)
    found = [os.stat(f"{root}/{name}") for name in ids.take(rows)]
    return np.array([(state.st_size, state.st_mtime_ns) for state in found], dtype=np.int64)
