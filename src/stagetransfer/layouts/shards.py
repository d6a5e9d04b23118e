"""Sets in litdata's shards, as `stagetransfer pack` writes them: on disk or in object storage.

A folder holds the shards (chunk-*.bin), litdata's index.json, samples.npz with the table of all
images and their places in the shards, and pack.json for the reader. The table tells labels and
splits without any shard, and an image is one range of bytes of one shard.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagetransfer.errors import UserError, require_extra
from stagetransfer.files import StoredImage, read_json
from stagetransfer.layouts.compact_strings import FilePaths, PackedStrings
from stagetransfer.layouts.folder_walk import entries
from stagetransfer.layouts.sample_arrays import Digests, from_arrays
from stagetransfer.layouts.samples import Samples

INDEX, TABLE, ABOUT = "index.json", "samples.npz", "pack.json"
MIXED = 16  # shards whose images are shuffled together, as one window of an epoch's order
_REQUESTS = 16  # images that a process reads at a time from a distance
_PATIENCE = 600  # seconds for one file

# litdata's description of the items of a pack. It chooses the code that reads them, such as pickle.
_LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
_KEYS = json.dumps(["image", "label", "key", "split"])
_ITEMS = {
    "data_format": ["file", "int", "str", "str"],
    "data_spec": json.dumps(
        [1, {"type": "builtins.dict", "context": _KEYS, "children_spec": [_LEAF] * 4}]
    ),
    "item_loader": "PyTreeLoader",
    "compression": None,
    "encryption": None,
}


@dataclass(frozen=True)
class Shards:
    """The shards below `root`; those that are missing there are read from `url`.

    With `keep`, a shard is downloaded whole when it is needed; without, images are read one by one.
    """

    root: Path
    url: str | None = None
    keep: bool = True

    def files(self) -> list[dict[str, Any]]:
        """Return litdata's record of each shard: `filename`, `chunk_bytes`, `chunk_size`.

        UserError if these or the items are not of a pack: they may name any code or file.
        """
        path = self.root / INDEX
        index = read_json(path)
        config, chunks = index.get("config"), index.get("chunks")
        if not isinstance(config, dict) or not _ITEMS.items() <= config.items():
            raise _foreign_items(path)
        if not isinstance(chunks, list) or not all(map(_is_shard, chunks)):
            raise UserError(
                f"{path}: its list of shards is damaged, or names files that are not those of "
                "`stagetransfer pack`. Copy it again, or pack the set again."
            )
        return chunks

    def read(self, shard: int, begin: int, end: int, name: str) -> bytes:
        """Return the image file that lies at these bytes of a shard."""
        config, loader = _opened(self.root, self.url, os.getpid())
        path = config.download_filepath(shard)
        try:
            if self.url is not None and self.keep:
                _download(path, lambda: config.download_chunk_from_index(shard, skip_lock=True))
            item = loader.load_item_from_bytes(
                config.download_chunk_bytes_from_index(shard, begin, end - begin), shard
            )
            key, content = item["key"], item["image"]
        except Exception as error:  # of the disk, of the network or of the format
            why = " ".join(str(error).split()) or type(error).__name__
            where = self.url or "the folder that was packed"
            raise UserError(
                f"{path}: {name} cannot be read ({why[:300]}). Copy the shard from {where} again."
            ) from error
        if key != name:
            raise UserError(
                f"{path}: it holds {key} where {TABLE} has {name}. Copy all files of one pack."
            )
        return bytes(content)


@dataclass(frozen=True)
class PackedImages(FilePaths):
    """Images in shards, each a `StoredImage` that is read when it is needed."""

    shards: Shards
    places: NDArray[np.int64]  # (N, 3): shard, first byte, end
    digests: Digests
    side: int | None = None  # of square images of one size; 0: there is none; None: not recorded

    def take(self, rows: NDArray[np.int64]) -> PackedImages:
        images = super().take(rows)
        return replace(
            self, names=images.names, places=self.places[rows], digests=self.digests[rows]
        )

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        shard, begin, end = self.places[index].tolist()
        name = self.names[index]
        read = functools.partial(self.shards.read, shard, begin, end, name)
        return StoredImage(f"{self.root}: {name}", read)

    def several(self, indices: Sequence[int]) -> list[StoredImage]:
        """Return images; those that are not kept on this machine are read at the same time."""
        chosen: list[StoredImage] = [self[i] for i in indices]
        if self.shards.url is None or self.shards.keep:
            return chosen
        with ThreadPoolExecutor(_REQUESTS) as pool:
            contents = pool.map(lambda one: one.read_bytes(), chosen)
            return [
                replace(one, read_bytes=functools.partial(bytes, content))
                for one, content in zip(chosen, contents, strict=True)
            ]

    @property
    def mixed(self) -> NDArray[np.int64] | None:
        """The (N,) numbers of shards, if there are so many that an epoch reads them in windows."""
        shards: NDArray[np.int64] = self.places[:, 0]
        return shards if len(self.shards.files()) > MIXED else None


def read_packed(root: Path, *, url: str | None = None, keep: bool = True) -> Samples:
    """Read what `stagetransfer pack` has written, with the labels and splits that it read.

    Args:
        url: where the files lie if they are not in `root`, into which they are downloaded:
            s3://..., gs://..., azure://..., r2://... or local:/a/slow/disk, as in litdata.
        keep: false if `root` has no space for the shards: all epochs read each image by itself.
    """
    entries(root)  # refuses a missing folder
    shards = Shards(root, url, keep)
    if url is not None:
        _download_tables(shards)
    about = read_json(root / ABOUT, "Give the folder that `stagetransfer pack` has written.")
    again = "Copy it again, or pack the set again."
    try:
        with np.load(root / TABLE) as file:  # without pickle: a table is only data
            arrays = {name: file[name] for name in file.files}
        names = PackedStrings(arrays["text"], arrays["ends"])
        digests = arrays["digests"].astype(np.uint64)
        side = about["side"] if type(about.get("side")) is int else None
        images = PackedImages(root, names, shards, arrays["places"].astype(np.int64), digests, side)
        samples = from_arrays(arrays, images)
        whole = samples.fingerprint(digests) == about["fingerprint"]
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{root / TABLE}: cannot be read ({error}). {again}") from error
    files, places = shards.files(), images.places
    fits = places.shape == (len(names), 3) and not (places < 0).any()
    if not whole or not fits or (places[:, 0] >= len(files)).any():
        raise UserError(f"{root / TABLE}: does not belong to {root / ABOUT}. {again}")
    if sum(file["chunk_size"] for file in files) != len(names):
        raise UserError(f"{root / INDEX}: does not belong to {root / TABLE}. {again}")
    _check_shards(shards, files)
    return samples


def _is_shard(record: Any) -> bool:
    """Return whether a record of index.json has the name of a shard, its bytes and its images."""
    if not isinstance(record, dict):
        return False
    name, *sizes = (record.get(key) for key in ("filename", "chunk_bytes", "chunk_size"))
    plain = isinstance(name, str) and re.fullmatch(r"chunk-\d+-\d+\.bin", name) is not None
    return plain and all(type(size) is int and size > 0 for size in sizes)


def _foreign_items(path: Path) -> UserError:
    return UserError(
        f"{path}: its items are not those of `stagetransfer pack`. Copy it again, or pack the set "
        "again."
    )


def _check_shards(shards: Shards, files: Sequence[dict[str, Any]]) -> None:
    """Refuse shards that are missing or cut off, and a disk that cannot hold all of them."""
    missing = 0
    for file in files:
        path, size = shards.root / file["filename"], file["chunk_bytes"]
        found = path.stat().st_size if path.is_file() else None
        if found is None and shards.url is not None:
            missing += size
        elif found != size:
            state = "is missing" if found is None else f"has {found} bytes instead of {size}"
            raise UserError(f"{path}: the shard {state}. Copy it again, or pack the set again.")
    free = shutil.disk_usage(shards.root).free
    if shards.keep and missing > free:
        raise UserError(
            f"{shards.root}: {missing / 1e9:.1f} GB of shards are missing, and {free / 1e9:.1f} GB "
            "are free. Give a larger disk as root, or set options.keep=false."
        )


def _download_tables(shards: Shards) -> None:
    """Download the files that are needed before the first image, unless they are there."""
    with require_extra("stream"):
        from litdata.streaming.downloader import get_downloader
    try:
        downloader = get_downloader(shards.url, str(shards.root), [])
        for name in (INDEX, TABLE, ABOUT):
            path, url = str(shards.root / name), f"{shards.url}/{name}"
            _download(path, functools.partial(downloader.download_file, url, path))
    except Exception as error:  # whatever the client of the storage raises
        why = " ".join(str(error).split())[:300]
        raise UserError(
            f"options.url={shards.url}: cannot be read ({why}). Give the place to which you copied "
            "the folder of `stagetransfer pack`, and check your access to it."
        ) from error


def _download(path: str, download: Callable[[], None]) -> None:
    """Download a file that is not there; one process does so, and the others wait for it.

    litdata gives a file its name when it is whole, and returns at once if another one downloads it.
    """
    end = time.monotonic() + _PATIENCE
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(f"not downloaded within {_PATIENCE} s")
        download()
        if not os.path.exists(path):
            time.sleep(0.05)


@functools.lru_cache(maxsize=4)
def _opened(root: Path, url: str | None, process: int) -> tuple[Any, Any]:
    """Return litdata's access to the shards; each process needs one of its own."""
    with require_extra("stream"):
        from litdata.streaming.item_loader import PyTreeLoader
        from litdata.streaming.reader import BinaryReader
    loader = PyTreeLoader()
    reader = BinaryReader(str(root), remote_input_dir=url, item_loader=loader)
    reader.get_chunk_intervals()  # reads the index
    if reader.config.data_format != _ITEMS["data_format"]:  # exchanged since `Shards.files`
        raise _foreign_items(root / INDEX)
    return reader.config, loader
