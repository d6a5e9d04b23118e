import math

import pytest
import torch

from stagetransfer.models import AlexNet, initialise
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.names import SCHEMES


def initialised(scheme="gaussian", layers=LAYERS, seed=3, network=None, **kwargs):
    network = AlexNet(7, input_size=39, **kwargs) if network is None else network
    initialise(network, layers, scheme, seed)
    return network


def spread(network):
    """(layer, standard deviation of its weight); fc8 is the smallest, 28,672 values."""
    return {layer: network.get_submodule(layer).weight.std().item() for layer in LAYERS}


def fan_in(network, layer):
    return network.get_submodule(layer).weight[0].numel()


@pytest.mark.parametrize(
    ("variant", "bias"), [("paper", 0.1), ("bvlc", 0.1), ("caffenet", 1.0), ("torchvision", 0.1)]
)
def test_gaussian_table(variant, bias):
    size = 63 if variant == "torchvision" else 39
    network = AlexNet(7, variant, input_size=size)
    initialise(network, LAYERS, "gaussian", 1)
    for layer, std in spread(network).items():
        assert std == pytest.approx(0.005 if layer in ("fc6", "fc7") else 0.01, rel=0.02), layer
        expected = 0.0 if layer in ("conv1", "conv3", "fc8") else bias
        assert torch.all(network.get_submodule(layer).bias == expected), layer


def test_xavier_and_kaiming_follow_fan_in():
    network = initialised("xavier", variant="bvlc")  # grouped: half the fan-in
    for layer, std in spread(network).items():
        weight = network.get_submodule(layer).weight
        assert std == pytest.approx(math.sqrt(1 / fan_in(network, layer)), rel=0.02), layer
        assert weight.abs().max() <= math.sqrt(3 / fan_in(network, layer)) + 1e-7
    initialised("kaiming", network=network)
    for layer, std in spread(network).items():
        weight = network.get_submodule(layer).weight
        assert std == pytest.approx(math.sqrt(2 / fan_in(network, layer)), rel=0.02), layer
        assert weight.abs().max() > 3 * std  # a normal has tails
        assert not network.get_submodule(layer).bias.any()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_same_seed_gives_the_same_tensors_for_any_global_seed(scheme):
    states = []
    for noise in (5, 6):
        torch.manual_seed(noise)
        network = AlexNet(7, input_size=39)
        before = torch.get_rng_state()
        initialise(network, LAYERS, scheme, 9)
        assert torch.equal(torch.get_rng_state(), before)
        states.append(network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_layer_does_not_depend_on_which_others_are_initialised():
    network = initialised(layers=["fc7", "fc8"])
    kept = network.fc8.weight.clone(), network.fc7.weight.clone()
    initialised(layers=["fc8", "fc6", "fc7"], network=network)
    assert torch.equal(network.fc8.weight, kept[0])
    assert torch.equal(network.fc7.weight, kept[1])


def test_layers_and_seeds_differ():
    network = initialised(layers=["conv4", "conv3", "fc7", "fc8"])
    starts = [network.get_submodule(i).weight.flatten()[:99] for i in ("conv3", "conv4", "fc8")]
    assert not torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[1], starts[2])
    first = network.fc8.weight.clone()
    initialised(layers=["fc8"], seed=4, network=network)
    assert not torch.equal(network.fc8.weight, first)


def test_other_layers_are_unchanged():
    network = AlexNet(7, input_size=39)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    initialised("kaiming", layers=["fc7", "fc8"], network=network)
    changed = {name for name, t in network.state_dict().items() if not torch.equal(t, before[name])}
    assert changed == {"fc7.weight", "fc7.bias", "fc8.weight", "fc8.bias"}


def test_values_do_not_depend_on_the_dtype():
    single = initialised(layers=["fc8"]).fc8.weight
    double = initialised(layers=["fc8"], network=AlexNet(7, input_size=39).double()).fc8.weight
    assert torch.equal(single.double(), double)


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match="glorot"):
        initialise(AlexNet(7), ["conv1"], "glorot", 0)
