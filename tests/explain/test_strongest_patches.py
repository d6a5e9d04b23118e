"""Receptive fields and strongest patches."""

import pytest
import torch
from torch import nn

from stagetransfer.errors import UserError
from stagetransfer.explain import desalinet, receptive_field, strongest_patches
from stagetransfer.models import AlexNet


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AlexNet(3, "paper", input_size=131).eval()


# Sizes computed by hand: each layer adds (kernel - 1) x the product of the strides before it.
@pytest.mark.parametrize(
    ("layer", "size", "jump"),
    [("conv1", 11, 4), ("pool1", 19, 8), ("conv2", 51, 8), ("pool2", 67, 16), ("conv3", 99, 16),
     ("conv5", 163, 16), ("pool5", 195, 32)],
)  # fmt: skip
def test_receptive_field_of_alexnet(network, layer, size, jump):
    field = receptive_field(network, layer)
    assert (field.size, field.jump) == (size, jump)


@pytest.mark.parametrize("layer", ["conv1", "norm1", "conv2", "conv3"])
def test_a_value_depends_on_its_receptive_field_alone(network, layer):
    field = receptive_field(network, layer)
    images = torch.randn(1, 3, 131, 131, dtype=torch.float64, requires_grad=True)
    double = AlexNet(3, "paper", input_size=131).double()
    x = images
    for name, module in double.named_children():
        x = module(x)
        if name == layer:
            break
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


def test_layers_without_a_receptive_field_are_refused(network):
    for layer in ("fc6", "flatten", "conv9"):
        with pytest.raises(
            UserError, match=f"layer={layer}: the feature extractor has no such layer"
        ):
            receptive_field(network, layer)


def test_strongest_patches_are_the_greatest_activations(network):
    images = torch.randn(6, 3, 131, 131)
    found = strongest_patches(network, images, "conv2", channels=3, patches=2, batch_size=4)
    with torch.no_grad():
        maps = network[: [name for name, _ in network.named_children()].index("conv2") + 1](images)
    best = maps.flatten(2).max(2).values.sort(dim=0, descending=True)
    ranked = best.values[:2].mean(0).argsort(descending=True)[:3]
    assert found.channels.tolist() == ranked.tolist()
    for k, channel in enumerate(ranked.tolist()):
        torch.testing.assert_close(found.activations[k], best.values[:2, channel])
        for p in range(2):
            image, row, column = (int(part[k, p]) for part in (found.images, found.rows, found.columns))  # noqa: E501  # fmt: skip
            assert image == best.indices[p, channel]
            torch.testing.assert_close(maps[image, channel, row, column], found.activations[k, p])


def test_a_patch_is_the_receptive_field_of_its_neuron(network):
    images = torch.randn(2, 3, 131, 131)
    found = strongest_patches(network, images, "conv2", channels=1, patches=1)
    image, row, column = (int(part[0, 0]) for part in (found.images, found.rows, found.columns))
    field = receptive_field(network, "conv2")
    margin = nn.functional.pad(images[image], [60] * 4)
    rows, columns = (slice(at.start + 60, at.stop + 60) for at in (field.at(row), field.at(column)))
    torch.testing.assert_close(found.inputs[0, 0], margin[:, rows, columns])
    saliency = desalinet(
        network, images[image][None], "conv2", ("neuron", (int(found.channels[0]), row, column))
    )
    inside = nn.functional.pad(saliency[0], [60] * 4)[:, rows, columns]
    torch.testing.assert_close(found.maps[0, 0], inside)
    assert inside.abs().sum() == pytest.approx(
        saliency.abs().sum().item(), rel=1e-5
    )  # the map is 0 outside
