import logging
import urllib.error

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from stagetransfer.errors import UserError
from stagetransfer.models import AlexNet, InputSpec, copy_blocks, load_weights, weight_files
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.models.build import as_backbone
from stagetransfer.models.weight_files import expand_groups


@pytest.fixture
def small():
    """A state dict of a few layers; only `copy_blocks` checks their sizes."""
    torch.manual_seed(0)
    return {
        "conv1.weight": torch.randn(4, 3, 2, 2),
        "conv1.bias": torch.randn(4),
        "fc8.weight": torch.randn(2, 5),
        "fc8.bias": torch.randn(2),
    }


TORCHVISION = {"conv1": "features.0", "fc8": "classifier.6"}


def renamed(state):
    return {f"{TORCHVISION[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in state.items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("suffix", ["pt", "pth", "ckpt"])
def test_plain_nested_and_lightning_checkpoints(tmp_path, small, suffix):
    path = tmp_path / f"net.{suffix}"
    prefixed = {f"network.{name}": tensor for name, tensor in small.items()}
    contents = (small, {"state_dict": small}, {"epoch": 3, "state_dict": prefixed}, renamed(small))
    for content in contents:
        torch.save(content, path)
        assert same(load_weights(path), small)


def test_safetensors(tmp_path, small):
    path = tmp_path / "net.safetensors"
    save_file(renamed(small), path)
    assert same(load_weights(str(path)), small)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"net\.safetensors: damaged"):
        load_weights(path)


def test_tensors_that_are_left_out_are_logged(tmp_path, small, caplog):
    torch.save(
        small | {"loss.weight": torch.ones(2), "fc8_flickr.bias": torch.ones(3)}, tmp_path / "n.pt"
    )
    with caplog.at_level(logging.WARNING):
        assert same(load_weights(tmp_path / "n.pt"), small)
    more, missing = (record.message.split() for record in caplog.records)
    assert more[:2] == ["+", "2"]
    assert more[-2:] == ["fc8_flickr.bias,", "loss.weight"]
    assert missing[:2] == ["-", "12"]  # of the layers from conv2 to fc7


@pytest.mark.parametrize("key", ["model_state_dict", "state_dict_ema", "net"])
@pytest.mark.parametrize("prefix", ["module.", "model.", "net.", "backbone.", "_orig_mod.module."])
def test_wrappers_and_prefixes_of_other_tools(tmp_path, small, key, prefix):
    torch.save({key: {prefix + name: value for name, value in small.items()}}, tmp_path / "n.pt")
    assert same(load_weights(tmp_path / "n.pt"), small)


def test_caffe_weights_that_are_not_finite_are_refused(tmp_path, small):
    layers = {"conv1": [np.full((2, 2, 3, 4), np.nan, np.float32), np.zeros(4, np.float32)]}
    np.save(tmp_path / "net.npy", layers)
    with pytest.raises(UserError, match=r"conv1\.weight has values that are not finite"):
        load_weights(tmp_path / "net.npy")


def test_a_checkpoint_of_ours_is_for_its_own_normalisation(tmp_path, small):
    file, mean, std = tmp_path / "best.ckpt", [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]
    stated = {"model": {"mean": mean, "std": std, "input_size": 83}, "classes": ["a", "b"]}
    torch.save({"state_dict": small, "hyper_parameters": stated}, file)
    assert same(load_weights(file, mean=mean, std=std), small)
    with pytest.raises(UserError, match=r"mean=\[0\.5, 0\.5, 0\.5\]"):
        load_weights(file)
    torch.save({"state_dict": small, "hyper_parameters": {"lr": 0.1, "model": "alexnet"}}, file)
    assert same(load_weights(file), small)


def test_torchvisions_weights_are_for_the_normalisation_of_imagenet(small, monkeypatch):
    content = renamed(small)
    monkeypatch.setattr(weight_files, "torchvision_weights", lambda name: (content, InputSpec(224)))
    assert same(load_weights("torchvision", "torchvision"), small)
    with pytest.raises(UserError, match=r"weights=torchvision.*mean"):
        load_weights("torchvision", "torchvision", mean=[0.5, 0.5, 0.5])


class Evil:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        import os

        return os.mkdir, (self.folder,)


def test_code_and_damage_in_a_checkpoint_are_refused(tmp_path, small):
    path, trace = tmp_path / "net.pt", tmp_path / "trace"
    torch.save(small | {"extra": Evil(str(trace))}, path)
    with pytest.raises(
        UserError, match=r"net\.pt: refused, .*its pickle asks for posix\.mkdir"
    ) as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()
    torch.save(small, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"net\.pt: damaged") as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(3), "holds one Tensor, not a state dict"),
        (
            {"layer1.weight": torch.ones(3)},
            r"net\.pt: .*, only layer1.weight\. Rename .*conv1\.weight",
        ),
        ({}, r"net\.pt: .*, only none"),
    ],
)
def test_foreign_checkpoints_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(UserError, match=message):
        load_weights(tmp_path / "net.pt")


def test_bad_arguments_are_refused(tmp_path):
    (tmp_path / "net.xyz").touch()
    (tmp_path / "net.caffemodel").touch()
    (tmp_path / "NET.NPY").touch()
    for arguments, message in (
        ((tmp_path / "none.pt",), r"none\.pt: no such file"),
        ((tmp_path / "net.xyz",), r"net\.xyz: unknown kind .* \.caffemodel"),
        ((tmp_path / "NET.NPY",), r"NET\.NPY: damaged"),
        ((tmp_path / "net.caffemodel", "torchvision"), r"net\.caffemodel: .* paper, bvlc or"),
        (("torchvision", "bvlc"), "do not fit variant bvlc"),
    ):
        with pytest.raises(UserError, match=message):
            load_weights(*arguments)


def test_torchvisions_weights_from_its_cache(tmp_path, small, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    place = tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"
    place.parent.mkdir()
    torch.save(renamed(small), place)
    assert same(load_weights("torchvision", "torchvision"), small)
    place.write_bytes(b"cut off")
    with pytest.raises(UserError, match=f"neither be read from {tmp_path}"):
        load_weights("torchvision", "torchvision")


def test_torchvisions_weights_without_internet(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no net")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    with pytest.raises(UserError, match=r"no net.*\. Download https://.*\.pth elsewhere") as caught:
        load_weights("torchvision", "torchvision")
    assert str(tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("groups", [2, 4])
def test_expanded_groups_give_the_same_output(groups):
    weight = torch.randn(8, 12 // groups, 3, 3, dtype=torch.float64)
    x = torch.randn(2, 12, 5, 5, dtype=torch.float64)
    full = expand_groups(weight, groups)
    assert full.shape == (8, 12, 3, 3)
    assert torch.count_nonzero(full) == weight.numel()
    expected = functional.conv2d(x, weight, groups=groups)
    torch.testing.assert_close(functional.conv2d(x, full), expected, rtol=0, atol=1e-12)


def test_grouped_checkpoint_in_a_network_without_groups(tmp_path):
    torch.manual_seed(0)
    grouped = AlexNet(2, "caffenet", input_size=39).eval()
    convolutions = {n: t for n, t in grouped.state_dict().items() if n.startswith("conv")}
    torch.save(convolutions, tmp_path / "net.pt")
    ungrouped = AlexNet(2, "paper", input_size=39).eval()
    copy_blocks(as_backbone(ungrouped), load_weights(tmp_path / "net.pt", "paper"), LAYERS[:5])
    x = torch.randn(2, 3, 39, 39)
    with torch.no_grad():
        both = (nn.Sequential(*list(one.children())[:15])(x) for one in (ungrouped, grouped))
        torch.testing.assert_close(*both, rtol=1e-4, atol=1e-5)
    assert same(load_weights(tmp_path / "net.pt", "caffenet"), convolutions)


def meta(*arguments, **options):
    with torch.device("meta"):
        return AlexNet(*arguments, **options)


def test_only_the_named_layers_are_copied():
    source, target = AlexNet(2, input_size=39), AlexNet(3, input_size=39)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    copy_blocks(as_backbone(target), source.state_dict(), ("conv1", "fc6"))
    names = ["conv1.weight", "conv1.bias", "fc6.weight", "fc6.bias"]
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name] if name in names else before[name])
    assert target.conv1.weight.data_ptr() != source.conv1.weight.data_ptr()


@pytest.mark.parametrize(
    ("file", "network", "message"),
    [
        (
            {"input_size": 227},
            {"input_size": 99},
            r"\+- fc6\.weight: file \(4096, 9216\), network \(4096, 1024\)\. Set input_size",
        ),
        (
            {"variant": "bvlc"},
            {"variant": "paper"},
            r"\+- conv2\.weight: file \(256, 48, 5, 5\), network \(256, 96, 5, 5\);.* Set groups=2",
        ),
        ({"variant": "paper"}, {"variant": "bvlc"}, r"file \(256, 96, 5, 5\).*\. Set groups=1"),
        ({"variant": "torchvision"}, {"variant": "paper"}, r"\+- conv1.*\. Set the variant"),
        ({"num_classes": 1000}, {}, r"\+- fc8.weight.*fc8.bias: file \(1000,\).*leave fc8 out"),
    ],
)
def test_the_error_lists_differences_and_what_to_set(file, network, message):
    state = meta(**({"num_classes": 7} | file)).state_dict()
    with pytest.raises(UserError, match=message) as caught:
        copy_blocks(as_backbone(meta(**({"num_classes": 7} | network))), state)
    assert "\n" not in str(caught.value)


def test_all_layers_are_copied_or_none():
    network = AlexNet(2, input_size=39)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = AlexNet(2, input_size=39).state_dict()
    del state["fc8.bias"]
    with pytest.raises(
        UserError, match=r"- fc8\.bias: file nothing, network \(2,\)\. Leave missing"
    ):
        copy_blocks(as_backbone(network), state)
    assert same(network.state_dict(), before)
