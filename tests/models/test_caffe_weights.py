"""Caffe's file formats: the tests write them byte by byte, and the package reads them."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from stagetransfer.errors import UserError
from stagetransfer.models import AlexNet, copy_blocks, load_weights
from stagetransfer.models.build import as_backbone
from stagetransfer.models.caffe_weights import CAFFE_MEAN, fold_input, read_caffemodel, read_npy

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, payload):
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob(array, legacy=False, double=False, packed=True):
    array = np.asarray(array)
    if legacy:
        shape = (1,) * (4 - array.ndim) + array.shape
        head = b"".join(field(i, n) for i, n in enumerate(shape, start=1))
    else:
        dims = b"".join(varint(n) for n in array.shape)
        head = field(7, field(1, dims))
    if packed:
        return head + field(8 if double else 5, array.astype("<f8" if double else "<f4").tobytes())
    return head + b"".join(varint(5 << 3 | 5) + struct.pack("<f", x) for x in array.ravel())


def caffemodel(layers, v1=False, **form):
    """A NetParameter; with `v1`, in V1LayerParameter messages and blob dimensions of 2013."""
    name, blobs, outer = (4, 6, 2) if v1 else (1, 7, 100)
    body = field(1, b"AlexNet")
    for key, arrays in {"data": [], **layers}.items():
        message = field(name, key.encode()) + field(5 if v1 else 2, 4 if v1 else b"Convolution")
        message += b"".join(field(blobs, blob(a, legacy=v1, **form)) for a in arrays)
        body += field(outer, message)
    return body


@pytest.fixture
def layers(rng):
    return {
        "conv1": [rng.normal(size=(4, 3, 2, 2)), rng.normal(size=4)],
        "conv2": [rng.normal(size=(6, 2, 3, 3)), rng.normal(size=6)],
        "fc8": [rng.normal(size=(3, 5)), rng.normal(size=3)],
    }


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def write(folder, content, name="net.caffemodel"):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "form", [{}, {"double": True}, {"packed": False}, {"v1": True}, {"v1": True, "double": True}]
)
def test_caffemodel_round_trip(tmp_path, layers, form):
    state = read_caffemodel(write(tmp_path, caffemodel(layers, **form)))
    assert set(state) == {f"{name}.{kind}" for name in layers for kind in ("weight", "bias")}
    for name, (weight, bias) in layers.items():
        assert torch.equal(state[f"{name}.weight"], torch.tensor(weight, dtype=torch.float32))
        assert torch.equal(state[f"{name}.bias"], torch.tensor(bias, dtype=torch.float32))


def test_caffemodel_truncated_anywhere_is_refused(tmp_path, layers):
    whole = caffemodel({"fc8": layers["fc8"]})
    for length in range(len(whole)):
        with pytest.raises(UserError, match=r"net\.caffemodel: (damaged|holds no layer)"):
            read_caffemodel(write(tmp_path, whole[:length]))


def test_caffemodel_with_a_wrong_shape_is_refused(tmp_path):
    content = field(100, field(1, b"fc8") + field(7, field(1, 7) + field(5, b"\0" * 8)))
    with pytest.raises(UserError, match=r"shape \[7, 1, 1, 1\] holds 2 numbers"):
        read_caffemodel(write(tmp_path, content))


@settings(max_examples=200, deadline=None)
@given(noise=st.binary(max_size=60))
def test_noise_is_refused_in_one_line(tmp_path_factory, noise):
    path = write(tmp_path_factory.mktemp("noise"), b"\xa2\x06" + noise)
    with pytest.raises(UserError) as caught:
        read_caffemodel(path)
    assert "\n" not in str(caught.value)


def test_conversion_to_our_input_is_exact(rng):
    weight, bias = torch.tensor(rng.normal(size=(8, 3, 11, 11))), torch.tensor(rng.normal(size=8))
    rgb = torch.tensor(rng.integers(0, 256, size=(2, 3, 31, 31))).double()
    assert difference(weight, bias, rgb) < 1e-9


def test_conversion_of_bvlc_conv1_is_exact(rng):
    root = os.environ.get("STAGETRANSFER_SHARED_DATA")
    folder = Path(root) if root else Path(__file__).parents[3] / "shared" / "data"
    path = folder / "weights" / "bvlc_alexnet_conv1.npz"
    if not path.is_file():
        pytest.skip("BVLC's conv1 is not here; STAGETRANSFER_SHARED_DATA names its folder")
    with np.load(path) as stored:
        weight, bias = (torch.from_numpy(stored[k]).double() for k in ("weight", "bias"))
    rgb = torch.tensor(rng.integers(0, 256, size=(2, 3, 67, 67))).double()
    assert difference(weight, bias, rgb) < 1e-9


def difference(weight, bias, rgb):
    """Largest difference between conv1's outputs for Caffe's input and for ours."""
    caffe = torch.stack([rgb[:, c] - CAFFE_MEAN[c] for c in (2, 1, 0)], dim=1)
    ours = torch.stack([(rgb[:, c] / 255 - MEAN[c]) / STD[c] for c in range(3)], dim=1)
    expected = functional.conv2d(caffe, weight, bias, stride=4)
    got = functional.conv2d(ours, *fold_input(weight, bias, MEAN, STD), stride=4)
    assert expected.std() > 1
    return (got - expected).abs().max().item()


@pytest.fixture(scope="module")
def caffe_layers():
    """conv1 to fc6 with groups at 71 pixels: pool5 is 2 x 2, so the order in fc6 matters."""
    torch.manual_seed(0)
    state = AlexNet(2, "bvlc", input_size=71).state_dict()
    names = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6")
    return {n: [state[f"{n}.{k}"].numpy() for k in ("weight", "bias")] for n in names}


@pytest.fixture(scope="module")
def image():
    return torch.randint(0, 256, (1, 3, 71, 71)).float()


@pytest.fixture(scope="module")
def caffe_pool5_and_fc6(caffe_layers, image):
    """Caffe's result, with B, G, R as input and its own weights."""
    network = AlexNet(2, "bvlc", input_size=71).eval()
    copy_blocks(as_backbone(network), tensors(caffe_layers), caffe_layers)
    mean = torch.tensor(CAFFE_MEAN).view(3, 1, 1)
    with torch.no_grad():
        x = (image - mean).flip(1)
        return upto(network, "pool5")(x), upto(network, "fc6")(x)


def upto(network, name):
    names = [child for child, _ in network.named_children()]
    return nn.Sequential(*list(network.children())[: names.index(name) + 1])


def tensors(layers):
    return {
        f"{n}.{k}": torch.from_numpy(a)
        for n, arrays in layers.items()
        for k, a in zip(("weight", "bias"), arrays, strict=True)
    }


def tensorflow(layers):
    def moved(name, weight):
        if weight.ndim == 4:
            return weight.transpose(2, 3, 1, 0)
        if name == "fc6":
            weight = weight.reshape(-1, 256, 2, 2).transpose(0, 2, 3, 1).reshape(len(weight), -1)
        return weight.T

    return {name: [moved(name, weight), bias] for name, (weight, bias) in layers.items()}


def our_fc6(path, image, groups):
    """fc6 of our network with weights from a file and our input."""
    network = AlexNet(2, "bvlc", groups=groups, input_size=71).eval()
    state = load_weights(path, "bvlc", groups=groups)
    assert len(state) == 12
    copy_blocks(as_backbone(network), state, ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6"))
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        return upto(network, "fc6")((image / 255 - mean) / std)


@pytest.mark.parametrize("groups", [2, 1])
def test_caffemodel_gives_caffes_output(tmp_path, caffe_layers, caffe_pool5_and_fc6, image, groups):
    path = write(tmp_path, caffemodel(caffe_layers, v1=True))
    expected = caffe_pool5_and_fc6[1]
    got = our_fc6(path, image, groups)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * expected.std().item())


@pytest.mark.parametrize("groups", [2, 1])
def test_npy_gives_caffes_output(tmp_path, caffe_layers, caffe_pool5_and_fc6, image, groups):
    path = tmp_path / "net.npy"
    np.save(path, tensorflow(caffe_layers), allow_pickle=True)
    expected = caffe_pool5_and_fc6[1]
    got = our_fc6(path, image, groups)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * expected.std().item())


def test_npy_fc6_reads_height_width_channel(caffe_layers, caffe_pool5_and_fc6):
    pool5, expected = caffe_pool5_and_fc6
    weight, bias = tensorflow(caffe_layers)["fc6"]
    flat = pool5[0].permute(1, 2, 0).reshape(-1)
    torch.testing.assert_close(flat @ torch.tensor(weight) + torch.tensor(bias), expected[0])


def npy(payload):
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (53 - len(header) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload


def wrapped(layers):
    array = np.empty((), object)
    array[()] = layers
    return array


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_npy_of_any_pickle_protocol(tmp_path, protocol, rng):
    weight = np.asfortranarray(rng.normal(size=(5, 3)).astype("f4"))
    content = npy(pickle.dumps(wrapped({"fc8": [weight, np.ones(3, ">f8")]}), protocol))
    state = read_npy(write(tmp_path, content, "net.npy"))
    assert torch.equal(state["fc8.weight"], torch.tensor(weight.T))
    assert torch.equal(state["fc8.bias"], torch.ones(3))


def test_npy_written_by_python_2(tmp_path):
    """The widespread file: byte strings, numpy.core, no explicit encoding."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def array(shape, code, order, content):
        start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b")
        dtype = b"cnumpy\ndtype\n(" + text(code) + b"K\x00K\x01tR(K\x03" + text(order)
        dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        dims = b"(" + b"".join(b"K" + bytes([n]) for n in shape) + b"t"
        return start + b"tR(K\x01" + dims + dtype + b"\x89" + content + b"tb"

    numbers = np.array([[1.5, -2.0], [3.25, 1e-3], [7.0, 8.0]], "<f4")
    weight = array((3, 2), b"f4", b"<", text(numbers.tobytes()))
    bias = array((2,), b"f4", b"<", text(np.array([-1.0, 255.0], "<f4").tobytes()))
    layers = b"}" + text(b"fc8") + b"](" + weight + bias + b"es"
    content = npy(b"\x80\x02" + array((), b"O8", b"|", b"](" + layers + b"e") + b".")
    state = read_npy(write(tmp_path, content, "net.npy"))
    assert torch.equal(state["fc8.weight"], torch.tensor(numbers.T))
    assert state["fc8.bias"].tolist() == [-1.0, 255.0]


class Evil:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    "call", [os.mkdir, eval, np.load, np.lib.format.open_memmap, np.memmap, getattr]
)
def test_code_in_an_npy_is_refused(tmp_path, call):
    trace = tmp_path / "trace"
    evil = Evil(call, f"__import__('os').mkdir({str(trace)!r})" if call is eval else str(trace))
    path = write(tmp_path, npy(pickle.dumps(wrapped({"fc8": [evil, evil]}))), "net.npy")
    with pytest.raises(UserError, match=r"net\.npy: refused, .* asks for .* plain arrays"):
        load_weights(path)
    assert not trace.exists()


def test_forged_arrays_in_an_npy_are_refused(tmp_path):
    """Raw bytes in an array of objects would be pointers that NumPy might follow."""
    honest = pickle.dumps(wrapped({"fc8": [np.ones((2, 2)), np.ones(2)]}), 2)
    for old, new in ((b"f8", b"V8"), (b"f8", b"O8"), (b"f8", b"f4"), (b"K\x02", b"K\x03")):
        assert old in honest
        with pytest.raises(UserError, match=r"net\.npy: damaged"):
            read_npy(write(tmp_path, npy(honest.replace(old, new)), "net.npy"))


def test_damaged_npy_is_refused(tmp_path):
    whole = npy(pickle.dumps(wrapped({"fc8": [np.ones((5, 3)), np.ones(3)]})))
    for length in range(0, len(whole), 7):
        with pytest.raises(UserError, match=r"net\.npy: damaged") as caught:
            read_npy(write(tmp_path, whole[:length], "net.npy"))
        assert "\n" not in str(caught.value)
    np.save(tmp_path / "plain.npy", np.ones(3))
    with pytest.raises(UserError, match="one array of float64"):
        read_npy(tmp_path / "plain.npy")
    np.save(tmp_path / "ints.npy", wrapped({"fc8": [np.ones((2, 2), int), np.ones(2)]}))
    with pytest.raises(UserError, match="an array of i8"):
        read_npy(tmp_path / "ints.npy")
    for wrong in ({"fc8": np.ones(3)}, {"fc6": [np.ones((10, 2)), np.ones(2)]}, ["fc8"], {}):
        np.save(tmp_path / "wrong.npy", wrapped(wrong), allow_pickle=True)
        with pytest.raises(UserError, match=r"wrong\.npy: (damaged|holds no layer)"):
            read_npy(tmp_path / "wrong.npy")
