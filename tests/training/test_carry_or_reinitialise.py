import pytest
import torch

from stagetransfer.config.schema import Transfer
from stagetransfer.errors import UserError
from stagetransfer.models import InputSpec, alexnet_backbone
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.training import StageTransfer, frozen_blocks


def make(classes, seed):
    network = alexnet_backbone(classes, input=InputSpec(67))
    network.initialise("gaussian", seed)
    return network


@pytest.fixture(scope="module")
def source():
    return make(11, 1)


def transferred(source, **changes):
    network = make(7, 2)
    settings = {"reinitialise": network.classifier, "seed": 3}
    record = StageTransfer(source.state(), **(settings | changes)).apply(network)
    return network, record


def test_other_blocks_are_carried_over(source):
    network, record = transferred(source)
    for name, tensor in network.net.named_parameters():
        same = name.startswith(("conv", "fc6"))
        assert (name in record.carried) == same
        assert (name in record.reinitialised) == (not same)
        if same:
            assert torch.equal(tensor, source.state()[name])
    assert not torch.equal(network.net.fc7.weight, source.net.fc7.weight)
    assert record.frozen == []
    assert len(record.carried) + len(record.reinitialised) == 16


def test_reinitialised_layers_depend_only_on_the_seed(source):
    torch.manual_seed(5)
    one, _ = transferred(source)
    torch.manual_seed(6)
    two, _ = transferred(source, reinitialise=("fc6", "fc7", "fc8"))
    other, _ = transferred(source, seed=4)
    assert torch.equal(one.net.fc8.weight, two.net.fc8.weight)
    assert not torch.equal(one.net.fc8.weight, other.net.fc8.weight)
    assert not torch.equal(one.net.fc6.weight, two.net.fc6.weight)


def test_frozen_layers_need_no_gradient_and_are_recorded(source):
    network, record = transferred(source, frozen=("conv1", "conv2"))
    frozen = [name for name, p in network.net.named_parameters() if not p.requires_grad]
    assert frozen == record.frozen == [
        "conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias",
    ]  # fmt: skip


def test_a_source_of_another_shape_is_refused_and_changes_nothing(source):
    network = make(7, 2)
    before = {name: tensor.clone() for name, tensor in network.state().items()}
    with pytest.raises(UserError, match=r"fc8\.weight"):
        StageTransfer(source.state(), reinitialise=("fc7",)).apply(network)
    assert all(torch.equal(before[name], t) for name, t in network.state().items())


@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        (Transfer(), ()),
        (Transfer(mode="frozen"), LAYERS[:6]),
        (Transfer(mode="frozen", reinitialise=["fc6", "fc7", "fc8"]), LAYERS[:5]),
        (Transfer(tune_from="conv4"), LAYERS[:3]),
        (Transfer(tune_from="conv1"), ()),
        (Transfer(tune_from="fc8", reinitialise=["fc8"]), LAYERS[:7]),
        (Transfer(tune_from="head", reinitialise=["head"]), LAYERS[:7]),
        (Transfer(mode="frozen", reinitialise=["head"]), LAYERS[:7]),
    ],
)
def test_frozen_blocks_of_transfer_settings(source, settings, frozen):
    assert frozen_blocks(settings, source) == frozen
