import pytest
import torch

from stagetransfer.config.schema import Model, Recipe, Transfer
from stagetransfer.errors import UserError
from stagetransfer.models import InputSpec, alexnet_backbone, build_backbone
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.training import block_rates
from stagetransfer.training.parameter_groups import parameter_groups, rates_by_block


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        return alexnet_backbone(7, input=InputSpec(67))


def groups_of(network, lr=1, weight_decay=0.0, transfer=None, **options):
    recipe = Recipe(1, 1, {"lr": lr, "weight_decay": weight_decay}, **options)
    return parameter_groups(network, recipe, block_rates(transfer, network))


def test_first_match_wins():
    rates = rates_by_block(LAYERS, [["conv[12]", 0.1], ["conv.", 0.5], [".*", 1]])
    assert [rates[name] for name in LAYERS] == [0.1, 0.1, 0.5, 0.5, 0.5, 1, 1, 1]


def test_every_layer_must_be_covered():
    with pytest.raises(UserError, match=r"transfer\.rates: no entry matches fc6, fc7, fc8\."):
        rates_by_block(LAYERS, [["conv.", 1]])


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(UserError, match=r"transfer\.rates: 'cnov1' matches none of .* conv1"):
        rates_by_block(LAYERS, [["cnov1", 0.1], [".*", 1]])


def test_an_invalid_pattern_is_named():
    with pytest.raises(UserError, match=r"transfer\.rates: '\[' is not a regular expression"):
        rates_by_block(LAYERS, [["[", 1], [".*", 1]])


def test_every_parameter_is_in_exactly_one_group_even_if_values_are_equal(network):
    groups = groups_of(network, lr=0.1)
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in network.parameters())


def test_learning_rates_bias_rate_and_weight_decay(network):
    transfer = Transfer(rates=[["fc8", 10], [".*", 1]])
    groups = groups_of(network, lr=0.001, weight_decay=5e-4, transfer=transfer, bias_rate=2)
    by_name = {group["name"]: group for group in groups}
    assert by_name["fc8.weight"]["lr"] == pytest.approx(0.01)
    assert by_name["fc8.bias"]["lr"] == pytest.approx(0.02)
    assert by_name["conv3.weight"]["lr"] == pytest.approx(0.001)
    assert by_name["conv3.bias"]["lr"] == pytest.approx(0.002)
    assert by_name["conv3.weight"]["weight_decay"] == 5e-4
    assert by_name["conv3.bias"]["weight_decay"] == 0
    assert groups_of(network, lr=1, weight_decay=0.1, bias_decay=True)[1]["weight_decay"]


def test_frozen_parameters_have_no_group_but_patterns_may_name_them():
    with torch.device("meta"):
        network = alexnet_backbone(7, input=InputSpec(67))
    network.net.conv1.requires_grad_(False)
    groups = groups_of(network, lr=1, transfer=Transfer(rates=[["conv1", 0.5], [".*", 1]]))
    assert not [group for group in groups if group["name"].startswith("conv1")]
    assert len(groups) == 14


def test_groups_of_a_network_with_normalisations_are_few():
    network = build_backbone(Model(library="torchvision", name="resnet18", input_size=64), 7)
    transfer = Transfer(rate_decay=0.5)
    groups = groups_of(network, lr=1, weight_decay=0.1, transfer=transfer, norm_decay=False)
    assert [group["name"] for group in groups] == [
        *(f"{block}.{kind}" for block in network.blocks[:5] for kind in ("weight", "norm", "bias")),
        "fc.weight", "fc.bias",
    ]  # fmt: skip
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in network.parameters())
    rates = {group["block"]: group["lr"] for group in groups}
    assert rates == {b: 0.5**i for i, b in enumerate(reversed(network.blocks))}
    assert {g["weight_decay"] for g in groups if g["name"].endswith(("norm", "bias"))} == {0}
    assert {g["weight_decay"] for g in groups if g["name"].endswith("weight")} == {0.1}
    decaying = groups_of(network, lr=1, weight_decay=0.1)
    assert {g["weight_decay"] for g in decaying if g["name"].endswith("norm")} == {0.1}
