import pytest
import torch

from stagetransfer.errors import UserError
from stagetransfer.models import LAYERS, AlexNet
from stagetransfer.training.parameter_groups import parameter_groups, rates_by_layer


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        return AlexNet(7, input_size=67)


def test_first_match_wins():
    rates = rates_by_layer(LAYERS, [["conv[12]", 0.1], ["conv.", 0.5], [".*", 1]])
    assert [rates[name] for name in LAYERS] == [0.1, 0.1, 0.5, 0.5, 0.5, 1, 1, 1]


def test_every_layer_must_be_covered():
    with pytest.raises(UserError, match=r"transfer\.rates: no entry matches fc6, fc7, fc8\."):
        rates_by_layer(LAYERS, [["conv.", 1]])


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(UserError, match=r"transfer\.rates: 'cnov1' matches none of .* conv1"):
        rates_by_layer(LAYERS, [["cnov1", 0.1], [".*", 1]])


def test_an_invalid_pattern_is_named():
    with pytest.raises(UserError, match=r"transfer\.rates: '\[' is not a regular expression"):
        rates_by_layer(LAYERS, [["[", 1], [".*", 1]])


def test_every_parameter_is_in_exactly_one_group_even_if_values_are_equal(network):
    groups = parameter_groups(network, lr=0.1)
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in network.parameters())


def test_learning_rates_bias_rate_and_weight_decay(network):
    groups = parameter_groups(
        network, lr=0.001, weight_decay=5e-4, rates=[["fc8", 10], [".*", 1]], bias_rate=2
    )
    by_name = {group["name"]: group for group in groups}
    assert by_name["fc8.weight"]["lr"] == pytest.approx(0.01)
    assert by_name["fc8.bias"]["lr"] == pytest.approx(0.02)
    assert by_name["conv3.weight"]["lr"] == pytest.approx(0.001)
    assert by_name["conv3.bias"]["lr"] == pytest.approx(0.002)
    assert by_name["conv3.weight"]["weight_decay"] == 5e-4
    assert by_name["conv3.bias"]["weight_decay"] == 0
    assert parameter_groups(network, lr=1, weight_decay=0.1, bias_decay=True)[1]["weight_decay"]


def test_frozen_parameters_have_no_group_but_patterns_may_name_them():
    with torch.device("meta"):
        network = AlexNet(7, input_size=67)
    network.conv1.requires_grad_(False)
    groups = parameter_groups(network, lr=1, rates=[["conv1", 0.5], [".*", 1]])
    assert not [group for group in groups if group["name"].startswith("conv1")]
    assert len(groups) == 14
