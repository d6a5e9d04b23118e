"""A table of samples as arrays without pickled objects, for np.savez."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer.layouts.compact_strings import FilePaths, PackedStrings
from stagetransfer.layouts.samples import Samples

Arrays = Mapping[str, NDArray[Any]]
Digests = NDArray[np.uint64]  # (N,), of the pixels of each image


def to_arrays(
    samples: Samples, digests: Digests | None, head: Mapping[str, Any]
) -> dict[str, NDArray[Any]]:
    """Return ids, labels, groups, splits and digests; `head` is any JSON to keep with them."""
    ids = samples.ids
    packed = ids if isinstance(ids, PackedStrings) and ids.rows is None else PackedStrings.of(ids)
    (group_names, groups), (split_names, splits) = map(_coded, (samples.groups, samples.splits))
    names = {"classes": list(samples.classes), "groups": group_names, "splits": split_names}
    return {
        "head": np.frombuffer(json.dumps({**head, **names}).encode(), dtype=np.uint8),
        "text": packed.text,
        "ends": packed.ends,
        "labels": samples.labels.astype(np.int32),
        "digests": np.empty(0, np.uint64) if digests is None else digests,
        "groups": groups,
        "splits": splits,
    }


def read_head(arrays: Arrays) -> dict[str, Any]:
    """Return the `head` that `to_arrays` was given, and the names of classes, groups and splits."""
    head: dict[str, Any] = json.loads(arrays["head"].tobytes())
    return head


def from_arrays(arrays: Arrays, images: FilePaths) -> Samples:
    """Return the samples, whose ids are the names of the images."""
    head = read_head(arrays)
    labels, classes = arrays["labels"].astype(np.int64), tuple(head["classes"])
    groups, splits = (_decoded(head[name], arrays[name]) for name in ("groups", "splits"))
    return Samples(images, images.names, labels, classes, groups, splits)


def _coded(column: Sequence[str] | None) -> tuple[list[str] | None, NDArray[np.int32]]:
    """Return the distinct names, and each row's number among them; None for a missing column."""
    if column is None:
        return None, np.empty(0, dtype=np.int32)
    numbers, names = pd.factorize(np.array(column, dtype=object))
    return names.tolist(), numbers.astype(np.int32)


def _decoded(names: list[str] | None, numbers: NDArray[np.int32]) -> tuple[str, ...] | None:
    return None if names is None else tuple(np.array(names, dtype=object)[numbers].tolist())
