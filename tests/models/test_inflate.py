"""Networks for stacks of slices."""

import pytest
import torch

from models.networks import build
from stagetransfer.models import InputSpec, alexnet_backbone
from stagetransfer.models.inflate import InflatedConv2d, inflate


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:repvgg_a0", "alexnet"])
@pytest.mark.parametrize("depth", [1, 3, 5])
def test_a_constant_stack_gives_the_logits_of_the_image(name, depth):
    torch.manual_seed(0)
    network = alexnet_backbone(5, input=InputSpec(67)) if name == "alexnet" else build(name, 64)
    network = network.double().eval()
    inflated = inflate(network, depth).eval()
    assert any(isinstance(one, InflatedConv2d) for one in inflated.modules())
    images = torch.randn(2, 3, network.input.size, network.input.size, dtype=torch.float64)
    stack = images[:, :, None].expand(-1, -1, 4, -1, -1)
    torch.testing.assert_close(inflated(stack), network(images), rtol=1e-9, atol=1e-9)


def test_a_convolution_sees_the_slices_beside_and_no_others():
    network = build("torchvision:resnet18", 64).double().eval()
    inflated = inflate(network, 3)
    first = inflated.net.conv1
    x = torch.randn(6, 3, 32, 32, dtype=torch.float64)
    inflated.slices = 6
    before = first(x)
    changed = x.clone()
    changed[3] += 1
    different = (first(changed) - before).abs().amax((1, 2, 3)) > 0
    assert different.tolist() == [False, False, True, True, True, False]
    stack = x.transpose(0, 1)[None]
    expected = torch.nn.functional.conv3d(
        torch.nn.functional.pad(stack, (0, 0, 0, 0, 1, 1), "replicate"),
        first.weight.permute(1, 2, 0, 3, 4), None, (1, 2, 2), (0, 3, 3),
    )  # fmt: skip
    torch.testing.assert_close(before, expected[0].transpose(0, 1))


def test_stacks_are_independent_and_the_network_is_unchanged():
    network = build("torchvision:resnet18", 64).eval()
    state = {key: value.clone() for key, value in network.state().items()}
    inflated = inflate(network).eval()
    volumes = torch.randn(3, 3, 5, 64, 64)
    both = inflated(volumes)
    torch.testing.assert_close(both[1:2], inflated(volumes[1:2]), rtol=1e-4, atol=1e-5)
    inflated.net.conv1.weight.data.zero_()
    assert all(torch.equal(state[key], value) for key, value in network.state().items())
    with pytest.raises(ValueError, match="odd"):
        inflate(network, 2)
