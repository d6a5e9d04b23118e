"""Receptive fields and strongest patches."""

import pytest
import torch
from torch import nn

from stagetransfer.config.schema import Model
from stagetransfer.errors import UserError
from stagetransfer.explain import desalinet, receptive_field, salinet, strongest_patches
from stagetransfer.models import Backbone, InputSpec, alexnet_backbone, build_backbone


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return alexnet_backbone(3, "paper", input=InputSpec(131)).eval()


def library_network(library, name, size=64):
    torch.manual_seed(0)
    return build_backbone(Model(library, name, input_size=size), 3)


def sums(network, layer):
    """Return the field of a layer of AlexNet by the sums of Dumoulin & Visin 2016."""
    size, jump, start = 1, 1, 0
    found = {}
    for name, module in network.net.named_children():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            kernel, stride, padding = (
                value[0] if isinstance(value, tuple) else value
                for value in (module.kernel_size, module.stride, module.padding)
            )
            size, start, jump = size + (kernel - 1) * jump, start - padding * jump, jump * stride
        found[name] = size, jump, start
    return found[layer]


# Sizes computed by hand: each layer adds (kernel - 1) x the product of the strides before it.
@pytest.mark.parametrize(
    ("layer", "size", "jump"),
    [("conv1", 11, 4), ("pool1", 19, 8), ("conv2", 51, 8), ("pool2", 67, 16), ("conv3", 99, 16),
     ("conv5", 163, 16), ("pool5", 195, 32)],
)  # fmt: skip
def test_receptive_field_of_alexnet(network, layer, size, jump):
    field = receptive_field(network, layer)
    assert (field.size, field.jump) == (size, jump)


@pytest.mark.parametrize("variant", ["paper", "bvlc", "torchvision"])
def test_receptive_field_equals_the_sums(variant):
    network = alexnet_backbone(3, variant, input=InputSpec(67))
    for layer in ("conv1", "norm1", "conv2", "pool2", "conv4", "relu5", "pool5"):
        if layer in dict(network.net.named_children()):
            field = receptive_field(network, layer)
            assert (field.size, field.jump, field.start) == sums(network, layer)


# By the same sums, along the longest path: of a residual block, its convolutions. TensorFlow pads
# an even image of stride 2 at its end alone, so the first field of lite0 starts at 0.
@pytest.mark.parametrize(
    ("library", "name", "layer", "expected"),
    [
        ("torchvision", "resnet18", "conv1", (7, 2, -3)),
        ("torchvision", "resnet18", "layer1", (43, 4, -21)),
        ("torchvision", "resnet18", "layer2", (99, 8, -49)),
        ("torchvision", "resnet18", "layer4", (435, 32, -217)),
        ("timm", "tf_efficientnet_lite0", "conv_stem", (3, 2, 0)),
        ("timm", "tf_efficientnet_lite0", "blocks.1", (19, 4, -6)),
        ("timm", "convnext_atto", "stages.0", (52, 4, -24)),
    ],
)
def test_receptive_field_of_library_networks(library, name, layer, expected):
    field = receptive_field(library_network(library, name), layer)
    assert (field.size, field.jump, field.start) == expected


@pytest.mark.parametrize(
    ("library", "name", "layers"),
    [
        ("alexnet", None, ["conv1", "norm1", "conv2", "conv3"]),
        ("timm", "tf_efficientnet_lite0", ["conv_stem", "blocks.0", "blocks.1"]),
    ],
)
def test_a_value_depends_on_its_receptive_field_alone(library, name, layers):
    network = library_network(library, name, 131).double().eval()
    for layer in layers:
        field = receptive_field(network, layer)
        images = torch.randn(1, 3, 131, 131, dtype=torch.float64, requires_grad=True)
        outputs = []
        handle = network.net.get_submodule(layer).register_forward_hook(
            lambda module, inputs, output, outputs=outputs: outputs.append(output)
        )
        network(images)
        handle.remove()
        (x,) = outputs
        row, column = x.shape[2] // 2, x.shape[3] // 3
        x[0, :, row, column].sum().backward()
        seen = images.grad[0].abs().sum(0) > 0
        rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
        for found, window in ((rows, field.at(row)), (columns, field.at(column))):
            assert found.min() >= max(window.start, 0)
            assert found.max() < min(window.stop, 131)
            # A max-pool may ignore a strip at the margin, but less than its window.
            assert found.min() <= max(window.start, 0) + 2 * field.jump
            assert found.max() >= min(window.stop, 131) - 1 - 2 * field.jump


class Functions(nn.Module):
    """A network with pools as functions, one of them dilated, and Hardswish."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.act = nn.Hardswish()
        self.norm = nn.GroupNorm(1, 4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv(x), kernel_size=3, stride=2, dilation=2)
        x = self.act(x)
        x = self.norm(nn.functional.adaptive_max_pool2d(x, 3))
        return self.fc(x.amax((2, 3)))


def test_receptive_field_of_pooling_functions():
    blocks = {name: [f"{name}.weight", f"{name}.bias"] for name in ("conv", "norm", "fc")}
    network = Backbone(
        Functions(), blocks=blocks, head="fc", classifier=["fc"], input=InputSpec(40),
        initialise=lambda *_: None,
    )  # fmt: skip
    field = receptive_field(network, "act")
    assert (field.size, field.jump, field.start) == (3 + 4 * 2, 4, -1)
    with pytest.raises(UserError, match="no window of fixed size"):
        receptive_field(network, "norm")


def test_layers_without_a_receptive_field_are_refused(network):
    for layer in ("fc6", "flatten"):
        with pytest.raises(UserError, match=f"layer={layer}: its output has no positions"):
            receptive_field(network, layer)
    with pytest.raises(UserError, match="layer=conv9: the network has no such layer"):
        receptive_field(network, "conv9")


@pytest.mark.parametrize(
    ("library", "name", "size", "layer", "message"),
    [
        ("alexnet", None, 67, "avgpool", "no window of fixed size"),
        ("torchvision", "resnet18", 64, "avgpool", "no window of fixed size"),
        ("timm", "efficientnet_b0", 64, "blocks.1", "no window of fixed size"),
        ("timm", "vit_tiny_patch16_224", 32, "blocks.0", "its output has no positions"),
    ],
)
def test_layers_that_see_the_whole_image_are_refused(library, name, size, layer, message):
    if library == "alexnet":
        network = alexnet_backbone(3, "torchvision", input=InputSpec(size))
    else:
        network = library_network(library, name, size)
    with pytest.raises(UserError, match=f"layer={layer}: {message}"):
        receptive_field(network, layer)


def test_receptive_field_leaves_the_network_as_it_was():
    network = library_network("torchvision", "resnet18").half().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert receptive_field(network, "layer1").size == 43
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())


def cropped(images, field, row, column):
    """Return the receptive field of a neuron in images (C, H, W), with zeros outside of them."""
    rows, columns = (slice(at.start + 60, at.stop + 60) for at in (field.at(row), field.at(column)))
    return nn.functional.pad(images, [60] * 4)[:, rows, columns]


def test_strongest_patches_are_the_fields_of_the_greatest_activations(network):
    images = torch.randn(6, 3, 131, 131)
    found = strongest_patches(network, images, "conv2", channels=3, patches=2, batch_size=4)
    with torch.no_grad():
        names = list(dict(network.net.named_children()))
        maps = nn.Sequential(*network.net.children())[: names.index("conv2") + 1](images)
    best = maps.flatten(2).max(2).values.sort(dim=0, descending=True)
    ranked = best.values[:2].mean(0).argsort(descending=True)[:3]
    assert found.channels == ranked.tolist()
    field = receptive_field(network, "conv2")
    for k, channel in enumerate(found.channels):
        for p in range(2):
            image = int(best.indices[p, channel])
            row, column = divmod(int(maps[image, channel].argmax()), maps.shape[3])
            expected = cropped(images[image], field, row, column)
            torch.testing.assert_close(found.inputs[k, p], expected)
            start = ("neuron", (channel, row, column))
            saliency = desalinet(network, images[image][None], "conv2", start)[0]
            inside = cropped(saliency, field, row, column)
            torch.testing.assert_close(found.maps[k, p], inside)
            # The map is 0 outside of the field.
            assert inside.abs().sum() == pytest.approx(saliency.abs().sum().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("library", "name", "layer", "method"),
    [
        ("torchvision", "resnet18", "layer1", desalinet),
        ("timm", "convnext_atto", "stages.0", salinet),
    ],
)
def test_strongest_patches_of_library_networks(library, name, layer, method):
    network = library_network(library, name).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = torch.randn(3, 3, 64, 64)
    found = strongest_patches(network, images, layer, channels=1, patches=2)
    assert found.method == method.__name__
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    network.eval()
    with torch.no_grad(), network.watched([layer]) as outputs:
        network(images)
    maps = outputs[layer][:, found.channels[0]]
    first = int(maps.flatten(1).amax(1).argmax())
    position = divmod(int(maps[first].argmax()), maps.shape[2])
    start = ("neuron", (found.channels[0], *position))
    saliency = method(network, images[first][None], layer, start)
    assert found.maps[0, 0].abs().sum() == pytest.approx(saliency.abs().sum().item(), rel=1e-4)
    assert saliency.any()
