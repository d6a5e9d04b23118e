import pytest
import torch
import torchvision
from torch import nn

from stagetransfer.errors import UserError
from stagetransfer.models import AlexNet, copy_blocks
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.models.build import as_backbone
from stagetransfer.names import VARIANTS

PARAMETERS = {  # FACTS, section 3
    "grouped": {1000: 60_965_224, 61: 57_118_141, 7: 56_896_903},
    "ungrouped": {1000: 62_378_344, 61: 58_531_261, 7: 58_310_023},
    "torchvision": {1000: 61_100_840, 61: 57_253_757, 7: 57_032_519},
}
COUNTED = {"paper": "ungrouped", "bvlc": "grouped", "caffenet": "grouped"}


def meta(*args, **kwargs):
    """A network without memory: only shapes and counts."""
    with torch.device("meta"):
        return AlexNet(*args, **kwargs)


def sides(network, size):
    """Side of each convolution's and pool's output."""
    found = {}
    x = torch.empty(1, 3, size, size, device="meta")
    for name, module in network.named_children():
        x = module(x)
        if name.startswith(("conv", "pool", "avgpool")):
            assert x.shape[2] == x.shape[3]
            found[name] = x.shape[2]
    assert x.shape == (1, network.fc8.out_features)
    return found


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("classes", [1000, 61, 7])
def test_parameter_counts(variant, classes):
    count = sum(p.numel() for p in meta(classes, variant).parameters())
    assert count == PARAMETERS[COUNTED.get(variant, variant)][classes]


def test_groups_override_the_variant():
    for variant, groups, kind in (("paper", 2, "grouped"), ("bvlc", 1, "ungrouped")):
        network = meta(7, variant, groups=groups)
        assert sum(p.numel() for p in network.parameters()) == PARAMETERS[kind][7]


@pytest.mark.parametrize("variant", ["paper", "bvlc", "caffenet"])
@pytest.mark.parametrize(("size", "first"), [(227, 55), (224, 54)])
def test_output_sizes_with_caffes_pools(variant, size, first):
    network = meta(7, variant, input_size=size)
    found = sides(network, size)
    assert found["conv1"] == first
    assert [found[f"pool{i}"] for i in (1, 2, 5)] == [27, 13, 6]
    assert network.fc6.in_features == 256 * 6 * 6


@pytest.mark.parametrize("size", [63, 224, 227, 256])
def test_torchvision_variant_takes_any_size(size):
    network = meta(7, "torchvision", input_size=size)
    assert sides(network, size)["avgpool"] == 6
    assert network.fc6.in_features == 9216


@pytest.mark.parametrize("variant", VARIANTS)
def test_smallest_size_and_one_pixel_less(variant):
    smallest = 63 if variant == "torchvision" else 39
    found = sides(meta(7, variant, input_size=smallest), smallest)
    assert found["pool5"] == 1
    with pytest.raises(UserError, match=f"={smallest - 1}: too small .* Use {smallest} or more"):
        meta(7, variant, input_size=smallest - 1)
    with pytest.raises(RuntimeError, match="Output size is too small"):
        sides(meta(7, variant, input_size=smallest), smallest - 1)


@pytest.mark.parametrize("size", range(39, 240, 13))
def test_fc6_fits_every_size(size):
    sides(meta(2, "paper", input_size=size), size)


ORDER = {
    "bvlc": "conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2",
    "caffenet": "conv1 relu1 pool1 norm1 conv2 relu2 pool2 norm2",
    "paper": "conv1 relu1 pool1 norm1 conv2 relu2 pool2 norm2",
    "torchvision": "conv1 relu1 pool1 conv2 relu2 pool2",
}
MIDDLE = " conv3 relu3 conv4 relu4 conv5 relu5 pool5 "
HEAD = "flatten fc6 relu6 drop6 fc7 relu7 drop7 fc8"
TORCHVISION_HEAD = "avgpool flatten drop6 fc6 relu6 drop7 fc7 relu7 fc8"


@pytest.mark.parametrize("variant", VARIANTS)
def test_children_and_their_order(variant):
    head = TORCHVISION_HEAD if variant == "torchvision" else HEAD
    network = meta(7, variant)
    assert [name for name, _ in network.named_children()] == (
        ORDER[variant] + MIDDLE + head
    ).split()
    assert [*network.state_dict()] == [f"{i}.{k}" for i in LAYERS for k in ("weight", "bias")]


def test_lrn_order_override():
    swapped = [name for name, _ in meta(7, "bvlc", lrn_after_pool=True).named_children()]
    assert swapped == [name for name, _ in meta(7, "caffenet").named_children()]


def test_groups_stride_dropout_and_layer_types():
    network = meta(7, "bvlc", dropout=0.3)
    assert [m.groups for m in network if isinstance(m, nn.Conv2d)] == [1, 2, 1, 2, 2]
    assert (network.conv1.stride, network.conv1.padding) == ((4, 4), (0, 0))
    assert network.drop6.p == network.drop7.p == 0.3
    assert isinstance(network.norm1, nn.LocalResponseNorm)
    assert not any(m.inplace for m in network if isinstance(m, nn.ReLU))
    assert not network.pool1.return_indices


def test_torchvision_variant_gives_torchvisions_output():
    torch.manual_seed(1)
    theirs = torchvision.models.alexnet(num_classes=5).eval()
    ours = AlexNet(5, "torchvision", input_size=99).eval()
    state = dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))
    copy_blocks(as_backbone(ours), state)
    x = torch.randn(2, 3, 99, 99)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_forward_and_backward_at_227():
    network = AlexNet(7)
    out = network(torch.randn(1, 3, 227, 227))
    out.sum().backward()
    assert out.shape == (1, 7)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "vgg"}, r"model\.variant=vgg: unknown\. Use one of paper, bvlc"),
        ({"groups": 3}, "groups=3: does not divide"),
        ({"groups": 0}, "groups=0: does not divide"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"variant": "torchvision", "lrn_after_pool": True}, "has no LRN"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        meta(**({"num_classes": 7} | change))
