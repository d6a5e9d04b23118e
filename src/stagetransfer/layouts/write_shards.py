"""A set of image files written as litdata's shards, for sets larger than one machine."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagetransfer.errors import UserError, require_extra
from stagetransfer.files import ImageSource, atomic_folder, json_text, open_image, read_json
from stagetransfer.layouts import check_images
from stagetransfer.layouts.folder_walk import is_image
from stagetransfer.layouts.sample_arrays import to_arrays
from stagetransfer.layouts.samples import Samples
from stagetransfer.layouts.shards import ABOUT, TABLE, PackedImages, Shards, read_packed
from stagetransfer.names import SPLITS

SHARD_BYTES = 64 * 2**20


def packed_before(samples: Samples, out: Path) -> dict[str, Any] | None:
    """Return pack.json if `out` holds this set; None if nothing was packed there.

    UserError if it is another set, a shard is missing, or a file was changed after it was packed.
    """
    if not (out / ABOUT).is_file():
        return None
    about, images = read_json(out / ABOUT), read_packed(out).images
    assert isinstance(images, PackedImages)
    if len(samples) != len(images) or samples.fingerprint(images.digests) != about["fingerprint"]:
        raise UserError(f"{out}: holds another packed set. Give another folder, or remove it.")
    when = (out / ABOUT).stat().st_mtime
    newer = [isinstance(one, Path) and one.stat().st_mtime > when for one in samples.images]
    rows = np.flatnonzero(newer)
    changed = rows[check_images(samples.take(rows)) != images.digests[rows]].tolist()
    if changed:
        raise UserError(
            f"{out}: files of the set were changed after it was packed ({len(changed)}, such as "
            f"{samples.ids[changed[0]]}). Give another folder, or remove it."
        )
    return about


def write_packed(samples: Samples, root: Path, out: Path) -> dict[str, Any]:
    """Decode every image once, write the shards of all of them, and return pack.json.

    The files stay as they are. In the shards, images of one official split follow each other, in
    random order: a class is spread over all shards, so that a few shards hold all classes.
    UserError if a file cannot be decoded.
    """
    with require_extra("stream"):
        from litdata import File
        from litdata.streaming.cache import Cache
    assert not isinstance(samples.images, np.ndarray)
    digests, files = check_images(samples), samples.images
    split = samples.splits or ("",) * len(samples)
    mixed = np.random.default_rng(0).permutation(len(samples))
    order = sorted(mixed.tolist(), key=lambda row: split[row])
    with atomic_folder(out) as part:
        cache = Cache(str(part), chunk_bytes=SHARD_BYTES)
        sizes = set()
        for number, row in enumerate(order):
            # With a `File`, litdata's format does not depend on whether pyarrow is installed.
            image = File(bytes=_content(files[row]))
            with open_image(files[row]) as opened:
                sizes.add(opened.size)
            key, label = samples.ids[row], int(samples.labels[row])
            cache[number] = {"image": image, "label": label, "key": key, "split": split[row]}
        cache.done()
        cache.merge()
        shards = Shards(part).files()
        files_below = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
        images = {one.relative_to(root).as_posix() for one in files_below if is_image(one.name)}
        places = np.empty((len(samples), 3), dtype=np.int64)
        places[order] = np.concatenate([_places(part, i, one) for i, one in enumerate(shards)])
        sides = {width for width, height in sizes if width == height}
        about = {
            "classes": list(samples.classes),
            "images": len(samples),
            "counts": _counts(samples),
            "groups": None if samples.groups is None else len({*samples.groups}),
            "fingerprint": samples.fingerprint(digests),
            "side": sides.pop() if len(sizes) == len(sides) == 1 else 0,
            "left_out": len(images.difference(samples.ids)),
            "shards": len(shards),
            "bytes": sum(one["chunk_bytes"] for one in shards),
        }
        with (part / TABLE).open("wb") as file:
            arrays = to_arrays(samples, digests, {})
            np.savez(file, allow_pickle=False, **arrays, places=places)
        (part / ABOUT).write_text(json_text(about), encoding="utf-8")
    return about


def _counts(samples: Samples) -> dict[str, dict[str, int]]:
    """Return the number of images of each class in each official split ("all": there is none)."""
    split, result = np.array(samples.splits or ("all",) * len(samples)), {}
    for name in (one for one in (*SPLITS, "all") if one in split):
        count = np.bincount(samples.labels[split == name], minlength=len(samples.classes))
        result[name] = dict(zip(samples.classes, count.tolist(), strict=True))
    return result


def _content(file: ImageSource) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}). Restore it.") from error


def _places(folder: Path, number: int, shard: dict[str, Any]) -> NDArray[np.int64]:
    """Return the shard's number, first byte and end of each of its images, from its header."""
    path, count = folder / shard["filename"], shard["chunk_size"]
    bounds = np.fromfile(path, np.uint32, count + 1, offset=4).astype(np.int64)
    return np.stack([np.full(count, number), bounds[:-1], bounds[1:]], axis=1)
