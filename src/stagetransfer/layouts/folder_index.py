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
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagetransfer.files import atomic_path
from stagetransfer.layouts.compact_strings import FilePaths, PackedStrings
from stagetransfer.layouts.folder_walk import visited
from stagetransfer.layouts.image_check import check_images
from stagetransfer.layouts.sample_arrays import Arrays, Digests, from_arrays, read_head, to_arrays
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
        images = FilePaths(root, ids)
        samples = replace(samples, ids=ids, images=images)
        inside = [str(folder.relative_to(root)) for folder in dict.fromkeys(folders)]
        head = {"checked": check, "fingerprint": fingerprint, "folders": inside}
        arrays = to_arrays(samples, digests, head) | _states(images, head)
        newest = max(arrays["folder_times"].max(), arrays["file_states"][:, 1].max())
        settled = newest <= began - _SETTLED  # the tree is not being changed
        if settled and root.resolve() not in path.resolve().parents:  # never among the images
            _save(path, arrays, root)
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
            images = FilePaths(root, PackedStrings(file["text"], file["ends"]))
            states = _states(images, head)
            if not all(np.array_equal(state, file[name]) for name, state in states.items()):
                return None
            samples = from_arrays(file, images)
            digests = file["digests"].astype(np.uint64) if head["checked"] else None
            return samples, str(head["fingerprint"]), digests
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _save(path: Path, arrays: Arrays, root: Path) -> None:
    try:
        with atomic_path(path) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        log.warning("%s: cannot write the index of %s (%s)", path, root, error.strerror)


def _compared(count: int, checked: bool) -> NDArray[np.int64]:
    """Return the rows of the files whose states are compared: all, or some, evenly spaced."""
    number = count if checked else min(_FILES, count)
    return np.unique(np.linspace(0, count - 1, number).round().astype(np.int64))


def _states(images: FilePaths, head: Mapping[str, Any]) -> dict[str, NDArray[np.int64]]:
    """Return modification times of the folders, and sizes and times of the compared files."""
    root, files = images.root, images.take(_compared(len(images), head["checked"])).names
    times = [os.stat(f"{root}/{name}").st_mtime_ns for name in head["folders"]]
    states = [(one.st_size, one.st_mtime_ns) for one in (os.stat(f"{root}/{x}") for x in files)]
    return {"folder_times": np.array(times, np.int64), "file_states": np.array(states, np.int64)}
