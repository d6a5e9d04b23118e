"""Caffe's published AlexNet weights: `.caffemodel` and `.npy` files, and Caffe's other input.

Both formats are decoded here, so that no generated protobuf code is needed and nothing in a file is
ever executed. Field numbers: BVLC/caffe, src/caffe/proto/caffe.proto.
"""

import math
import pickle
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.errors import UserError, first_line

CAFFE_MEAN = (122.67892, 116.66877, 104.00699)
"""ImageNet's mean colour in R, G, B, in 0..255, which Caffe's models subtract."""

_POOL5_CHANNELS = 256  # in every published variant

# Field number of a layer message in NetParameter (`layers` of 2013, `layer` of today) -> field
# numbers of the layer's name and blobs.
_LAYER_FIELDS = {2: (4, 6), 100: (1, 7)}

Array = NDArray[np.float32]


def fold_input(
    weight: Tensor, bias: Tensor, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Return conv1 for our input that gives exactly what Caffe's conv1 gives for Caffe's input.

    Caffe's input is z = v - M in B, G, R, with v in 0..255 and M = `CAFFE_MEAN`. Ours is
    x = (v / 255 - mean) / std in R, G, B. So z = 255 std x + (255 mean - M), which is linear per
    channel. The result is exact wherever conv1 does not pad. It is computed in float64.
    """
    rgb = weight.double().flip(1)
    ours, scale, caffe = (torch.tensor(v, dtype=torch.float64) for v in (mean, std, CAFFE_MEAN))
    folded = torch.einsum("fchw,c->fchw", rgb, 255 * scale)
    shifted = bias.double() + torch.einsum("fchw,c->f", rgb, 255 * ours - caffe)
    return folded.to(weight.dtype), shifted.to(bias.dtype)


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """Return conv1.weight, conv1.bias, ... of every layer with blobs, in float32.

    Convolutions are (out, in / groups, height, width), fully connected layers (out, in).
    """
    state: dict[str, Tensor] = {}
    try:
        _, messages = _fields(memoryview(path.read_bytes()))
        for layer_field, (name_field, blobs_field) in _LAYER_FIELDS.items():
            for message in messages[layer_field]:
                _, layer = _fields(message)
                if layer[blobs_field]:
                    name = str(b"".join(layer[name_field][-1:]), "utf-8")
                    state |= _parameters(name, [_blob(blob) for blob in layer[blobs_field]])
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}).") from error
    except ValueError as error:
        raise UserError(
            f"{path}: damaged, or not a .caffemodel ({error}). Download it again."
        ) from error
    if not state:
        raise UserError(f"{path}: holds no layer with weights. Use a .caffemodel of AlexNet.")
    return state


def _blob(message: memoryview) -> Array:
    numbers, parts = _fields(message)
    data, dtype = (parts[5], "<f4") if parts[5] else (parts[8], "<f8")
    values = np.frombuffer(b"".join(data), dtype).astype(np.float32)
    if parts[7]:
        dimensions, packed = _fields(parts[7][-1])
        shape = dimensions[1]
        for part in packed[1]:
            position = 0
            while position < len(part):
                size, position = _varint(part, position)
                shape.append(size)
    else:  # num, channels, height, width
        shape = [(numbers[field] or [1])[-1] for field in (1, 2, 3, 4)]
    if math.prod(shape) != values.size:
        raise ValueError(f"a blob of shape {shape} holds {values.size} numbers")
    return values.reshape(shape)


def _fields(message: memoryview) -> tuple[dict[int, list[int]], dict[int, list[memoryview]]]:
    """Return the integers and the other values of a protobuf message by the field's number.

    A message that is cut short is a ValueError. https://protobuf.dev/programming-guides/encoding
    """
    numbers: defaultdict[int, list[int]] = defaultdict(list)
    parts: defaultdict[int, list[memoryview]] = defaultdict(list)
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        field, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = _varint(message, position)
            numbers[field].append(value)
            continue
        if wire_type == 2:
            length, position = _varint(message, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + length > len(message):
            raise ValueError("it ends too early")
        parts[field].append(message[position : position + length])
        position += length
    return numbers, parts


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a variable-length integer and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("it ends too early")
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number has more than ten bytes")


def read_npy(path: Path) -> dict[str, Tensor]:
    """Return the parameters in the widespread `bvlc_alexnet.npy`, as `read_caffemodel` does.

    The file is a pickled {'conv1': [weight, bias], ...}. Its convolutions are (height, width,
    in / groups, out), its fully connected layers (in, out), and fc6 expects pool5 flattened in the
    order height, width, channel. All are permuted. Nothing is executed: only arrays and plain
    containers are read from the pickle.
    """
    try:
        with path.open("rb") as file:
            layers = _unpickled(file)
        state: dict[str, Tensor] = {}
        for name, (weight, bias) in layers.items():
            state |= _parameters(name, [_from_tensorflow(name, weight.values), bias.values])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle raises all kinds of errors
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: damaged, or not of the form {{'conv1': [weight, bias], ...}} ({reason}). "
            "Download it again."
        ) from error
    if not state:
        raise UserError(f"{path}: holds no layer. Use AlexNet's weights.")
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
    """Return weight and bias of a layer; old files write (1, 1, out, in) and (1, 1, 1, out)."""
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
    # The widespread file was written by Python 2: its byte strings hold the arrays' contents.
    (layers,) = _ArrayUnpickler(file, encoding="latin1").load().values
    if not isinstance(layers, dict):
        raise ValueError(f"one {type(layers).__name__}")
    return layers


class _Dtype:
    """Replaces a pickled numpy.dtype of floats or objects."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in ("f2", "f4", "f8", "O", "O8"):
            raise ValueError(f"an array of {code}")
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Replaces a pickled numpy.ndarray; `values` is an array of numbers or a list of objects.

    NumPy's own reconstruction trusts the dtypes and flags in the pickle, with which crafted bytes
    could become pointers.
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
    """Replaces `_codecs.encode`, by which Python 3 writes bytes in old pickle protocols."""
    if encoding != "latin1":
        raise ValueError(f"bytes encoded as {encoding}")
    return text.encode(encoding)


class _ArrayUnpickler(pickle.Unpickler):
    _ALLOWED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise UserError(
                f"refused, because its pickle asks for {module}.{name} and might run code. "
                "Use a file of plain arrays."
            )
        return self._ALLOWED[module, name]
