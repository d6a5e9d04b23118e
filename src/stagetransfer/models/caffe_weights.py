"""Caffe's published AlexNet weights as data: `.caffemodel`, `.npy`, and their other input.

Both formats are read by hand, so that no generated protobuf code is needed and nothing in a file is
ever executed. Field numbers: BVLC/caffe, src/caffe/proto/caffe.proto.
"""

import math
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.errors import UserError

CAFFE_MEAN = (122.67892, 116.66877, 104.00699)
"""Mean colour of ImageNet in R, G, B, on 0..255, that Caffe's models subtract."""

_POOL5_CHANNELS = 256  # in every published form

Array = NDArray[np.float32]
Field = tuple[int, int | memoryview]


def fold_input(
    weight: Tensor, bias: Tensor, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """conv1 for our input that gives exactly what Caffe's conv1 gives for Caffe's input.

    Caffe's input is z = v - M, in B, G, R, with v on 0..255 and M = `CAFFE_MEAN`; ours is
    x = (v / 255 - mean) / std, in R, G, B. So z = 255 std x + (255 mean - M): a linear map by
    channel, exact wherever conv1 pads nothing.

    `weight` (filters, 3, height, width), `bias` (filters,); computed in float64, returned in their
    own dtype.
    """
    rgb = weight.double().flip(1)
    means, stds, theirs = (torch.tensor(v, dtype=torch.float64) for v in (mean, std, CAFFE_MEAN))
    folded = torch.einsum("fchw,c->fchw", rgb, 255 * stds)
    moved = bias.double() + torch.einsum("fchw,c->f", rgb, 255 * means - theirs)
    return folded.to(weight.dtype), moved.to(bias.dtype)


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """`conv1.weight`, `conv1.bias`, ... of every layer with blobs, float32, in Caffe's layout.

    Convolutions (out, in / groups, height, width), fully connected layers (out, in). Both kinds of
    layer message, `layers` of 2013 and `layer` of today. UserError for a damaged or foreign file.
    """
    state: dict[str, Tensor] = {}
    try:
        for number, message in _fields(memoryview(path.read_bytes())):
            if number in _LAYER_FIELDS and isinstance(message, memoryview):
                name, blobs = _layer(message, *_LAYER_FIELDS[number])
                if blobs:
                    state |= _parameters(name, blobs)
    except ValueError as error:
        raise UserError(
            f"{path}: damaged, or no .caffemodel ({error}); download it again"
        ) from error
    if not state:
        raise UserError(f"{path}: holds no layer with weights; is it a .caffemodel?")
    return state


_LAYER_FIELDS = {2: (4, 6), 100: (1, 7)}
"""Field of NetParameter -> fields of its layer message that hold name and blobs."""


def _layer(message: memoryview, name_field: int, blobs_field: int) -> tuple[str, list[Array]]:
    name, blobs = "", []
    for number, value in _fields(message):
        if isinstance(value, memoryview):
            if number == name_field:
                name = str(value, "utf-8")
            elif number == blobs_field:
                blobs.append(_blob(value))
    return name, blobs


def _blob(message: memoryview) -> Array:
    legacy = {1: 1, 2: 1, 3: 1, 4: 1}  # num, channels, height, width
    shape: list[int] | None = None
    chunks: dict[int, list[memoryview]] = {5: [], 8: []}  # float data, double data
    for number, value in _fields(message):
        if number in legacy and isinstance(value, int):
            legacy[number] = value
        elif number == 7 and isinstance(value, memoryview):
            shape = _dimensions(value)
        elif number in chunks and isinstance(value, memoryview):
            chunks[number].append(value)
    raw, kind = (chunks[5], "<f4") if chunks[5] else (chunks[8], "<f8")
    values = np.frombuffer(b"".join(raw), kind).astype(np.float32)
    shape = list(legacy.values()) if shape is None else shape
    if math.prod(shape) != values.size:
        raise ValueError(f"a blob of shape {shape} holds {values.size} numbers")
    return values.reshape(shape)


def _dimensions(message: memoryview) -> list[int]:
    dimensions: list[int] = []
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            dimensions.append(value)
        elif number == 1 and isinstance(value, memoryview):
            position = 0
            while position < len(value):
                dimension, position = _varint(value, position)
                dimensions.append(dimension)
    return dimensions


def _fields(message: memoryview) -> Iterator[Field]:
    """Number and value of each field of a protobuf message; ValueError if it is cut off.

    https://protobuf.dev/programming-guides/encoding
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == 2:
            length, position = _varint(message, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position + length > len(message):
            raise ValueError("it ends too early")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("it ends too early")
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number of more than ten bytes")


def read_npy(path: Path) -> dict[str, Tensor]:
    """The widespread `bvlc_alexnet.npy`, a pickled {'conv1': [weight, bias], ...}, as above.

    Its convolutions are (height, width, in / groups, out), its fully connected layers (in, out),
    and fc6 sees pool5 flattened in the order height, width, channel: all are permuted. Nothing is
    executed: of the pickle only arrays and plain containers are read, else UserError.
    """
    try:
        with path.open("rb") as file:
            layers = _unpickled(file)
        state: dict[str, Tensor] = {}
        for name, (weight, bias) in layers.items():
            state |= _parameters(name, [_from_tensorflow(name, weight.values), bias.values])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle raises whatever its damage leads to
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: damaged, or not of the form {{'conv1': [weight, bias], ...}} ({reason})"
        ) from error
    if not state:
        raise UserError(f"{path}: holds no layer")
    return state


def _from_tensorflow(name: str, weight: Array) -> Array:
    if weight.ndim == 4:
        return weight.transpose(3, 2, 0, 1)
    inputs, outputs = weight.shape
    if name != "fc6":
        return weight.T
    side = math.isqrt(inputs // _POOL5_CHANNELS)
    spatial = weight.reshape(side, side, _POOL5_CHANNELS, outputs)
    return spatial.transpose(3, 2, 0, 1).reshape(outputs, inputs)


def _parameters(name: str, blobs: list[Array]) -> dict[str, Tensor]:
    """Weight and bias of a layer; old files write (1, 1, out, in) and (1, 1, 1, out)."""
    weight = blobs[0]
    if not name.startswith("conv") and weight.ndim == 4 and weight.shape[:2] == (1, 1):
        weight = weight[0, 0]
    state = {f"{name}.weight": weight}
    if len(blobs) > 1:
        state[f"{name}.bias"] = blobs[1].reshape(-1)
    return {key: torch.from_numpy(np.array(array, np.float32)) for key, array in state.items()}


def _unpickled(file: BinaryIO) -> dict[str, Any]:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"npy format {version}")
    _, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype != np.dtype(object):
        raise ValueError(f"one array of {dtype}")
    # Python 2 wrote the widespread file: its byte strings are arrays' contents.
    (layers,) = _ArrayUnpickler(file, encoding="latin1").load().values
    if not isinstance(layers, dict):
        raise ValueError(f"one {type(layers).__name__}")
    return layers


class _Dtype:
    """Stands in for a pickled numpy.dtype of floats or objects."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in ("f2", "f4", "f8", "O", "O8"):
            raise ValueError(f"an array of {code}")
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Stands in for a pickled numpy.ndarray; `values` is an array, or a list of objects.

    NumPy's own reconstruction trusts the pickle about dtypes and flags, with which crafted bytes
    become pointers; this one reads numbers only.
    """

    values: Any

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, column_major, content = state
        if dtype.code.startswith("O"):
            self.values = content
            return
        raw = content.encode("latin1") if isinstance(content, str) else content
        flat = np.frombuffer(raw, np.dtype(dtype.order + dtype.code))
        self.values = flat.reshape(shape, order="F" if column_major else "C")


def _encode(text: str, encoding: str) -> bytes:
    """`_codecs.encode` as Python 3 writes bytes in an old pickle protocol."""
    if encoding != "latin1":
        raise ValueError(f"bytes as {encoding}")
    return text.encode(encoding)


class _ArrayUnpickler(pickle.Unpickler):
    _ADMITTED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ADMITTED:
            raise UserError(
                f"refused, its pickle asks for {module}.{name} and might run code; "
                "use a file of plain arrays"
            )
        return self._ADMITTED[module, name]
