import copy

import pytest
import torch

from stagetransfer.config.schema import Model
from stagetransfer.explain import cascading_randomisation, randomised
from stagetransfer.models import InputSpec, alexnet_backbone, build_backbone

NETWORKS = ("alexnet", "resnet18", "tf_efficientnet_lite0")


def build(name):
    """Return a network in which no tensor has its initial value."""
    torch.manual_seed(0)
    if name == "alexnet":
        network = alexnet_backbone(4, input=InputSpec(67))
    else:
        library = "torchvision" if name == "resnet18" else "timm"
        network = build_backbone(Model(library, name, input_size=64), 4)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(1)
    return network


@pytest.fixture(params=NETWORKS)
def network(request):
    return build(request.param)


def kept(a, b):
    """Return the blocks whose parameters and buffers are equal in both networks."""
    return [
        block
        for block in a.blocks
        if all(torch.equal(value, b.state()[name]) for name, value in a.state([block]).items())
    ]


def test_the_cascade_starts_at_the_head(network):
    before = copy.deepcopy(network.state_dict())
    previous = network
    for number, (block, control) in enumerate(cascading_randomisation(network, 0), start=1):
        assert block == network.blocks[-number]
        assert kept(network, control) == list(network.blocks[:-number])
        if number > 1:  # the other blocks are those of the step before
            assert set(kept(previous, control)) == set(network.blocks) - {block}
        previous = control
    assert number == len(network.blocks)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_alexnets_weights_have_the_variance_of_he_initialisation():
    network = build("alexnet")
    network.eval().net.fc6.weight.requires_grad_(False)
    control = randomised(network.double(), 0)
    for layer in ("conv2", "fc6"):
        weight = control.net.get_parameter(f"{layer}.weight").detach()
        fan_in = weight[0].numel()
        assert weight.std() * fan_in**0.5 == pytest.approx(2**0.5, rel=0.01)
        assert abs(weight.mean()) < 4 * (2 / fan_in / weight.numel()) ** 0.5
        assert not control.net.get_parameter(f"{layer}.bias").any()
        assert weight.dtype == torch.float64
    assert not control.training
    assert [p.requires_grad for p in control.parameters()] == [
        p.requires_grad for p in network.parameters()
    ]


def test_other_networks_get_their_librarys_values():
    control = randomised(build("resnet18"), 7)
    torch.manual_seed(7)
    new = build_backbone(Model("torchvision", "resnet18", input_size=64), 4)
    assert kept(control, new) == list(new.blocks)


def test_randomised_is_the_last_step_of_the_cascade(network):
    steps = dict(cascading_randomisation(network, 3))
    state = torch.get_rng_state()
    control = randomised(network, 3)
    assert kept(control, steps[network.blocks[0]]) == list(network.blocks)
    assert network.blocks[-1] not in kept(control, randomised(network, 4))
    assert torch.equal(torch.get_rng_state(), state)
