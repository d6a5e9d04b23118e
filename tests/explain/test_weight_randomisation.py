import copy

import pytest
import torch
from torch import nn

from stagetransfer.errors import UserError
from stagetransfer.explain import cascading_randomisation, randomised
from stagetransfer.models import LAYERS, AlexNet


@pytest.fixture
def network():
    torch.manual_seed(0)
    return AlexNet(4, input_size=67)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def kept(a, b):
    """Return the layers whose parameters are equal in both networks."""
    return [
        layer
        for layer in LAYERS
        if all(
            torch.equal(a.get_parameter(f"{layer}.{kind}"), b.get_parameter(f"{layer}.{kind}"))
            for kind in ("weight", "bias")
        )
    ]


def test_the_cascade_starts_at_the_last_layer(network):
    before = copy.deepcopy(network.state_dict())
    previous = network
    for number, (layer, control) in enumerate(cascading_randomisation(network, seeded()), start=1):
        assert layer == LAYERS[-number]
        assert kept(network, control) == list(LAYERS[:-number])
        if number > 1:  # the other layers are those of the step before
            assert set(kept(previous, control)) == set(LAYERS) - {layer}
        previous = control
    assert number == len(LAYERS)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_weights_have_the_variance_of_he_initialisation(network):
    network.eval().fc6.weight.requires_grad_(False)
    control = randomised(network.double(), "conv1", seeded())
    for layer in ("conv2", "fc6"):
        weight = control.get_parameter(f"{layer}.weight").detach()
        fan_in = weight[0].numel()
        assert weight.std() * fan_in**0.5 == pytest.approx(2**0.5, rel=0.01)
        assert abs(weight.mean()) < 4 * (2 / fan_in / weight.numel()) ** 0.5
        assert not control.get_parameter(f"{layer}.bias").any()
        assert weight.dtype == torch.float64
    assert not control.training
    assert [p.requires_grad for p in control.parameters()] == [
        p.requires_grad for p in network.parameters()
    ]


def test_randomised_equals_one_step_of_the_cascade(network):
    steps = dict(cascading_randomisation(network, seeded(3)))
    for layer in ("fc8", "fc6", "conv1"):
        control = randomised(network, layer, seeded(3))
        assert kept(control, steps[layer]) == list(LAYERS)
    assert "fc8" not in kept(control, randomised(network, "fc8", seeded(4)))


def test_unknown_layers_and_modules_are_refused(network):
    with pytest.raises(UserError, match=r"from_layer=pool5: no layer .* Use one of c"):
        randomised(network, "pool5", seeded())
    other = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    with pytest.raises(UserError, match=r"1 \(BatchNorm2d\): cannot be randomised"):
        next(cascading_randomisation(other, seeded()))
