"""Networks of all families as `Backbone`: blocks, buffers, and features of the frozen part."""

import math
import re

import pytest
import torch
from torch.nn import functional as F
from torchvision.models import ResNet

from models.networks import CLASSES, build, check
from stagetransfer.config.schema import Model
from stagetransfer.errors import UserError
from stagetransfer.models import (
    Backbone,
    FrozenPrefix,
    InputSpec,
    NoSplit,
    alexnet_backbone,
    build_backbone,
    copy_blocks,
    fixed_modules,
    library_weights,
    read_weights,
    scale_outputs,
)
from stagetransfer.models.block_structure import tensor_names

# At small sizes; `python tests/models/networks.py` tries every family at its own size.
FAST = {
    "torchvision:resnet18": 64, "torchvision:mobilenet_v3_small": 64,
    "torchvision:squeezenet1_1": 64, "torchvision:regnet_x_400mf": 64,
    "timm:tf_efficientnet_lite0": 64, "timm:convnext_atto": 64, "timm:vit_tiny_patch16_224": 64,
    "timm:repvgg_a0": 64, "timm:resnet10t": 64,
}  # fmt: skip
SLOW = {
    "torchvision:densenet121": 64, "torchvision:efficientnet_b0": 64,
    "torchvision:convnext_tiny": 64, "torchvision:vgg11_bn": 64, "torchvision:swin_t": 64,
    "torchvision:googlenet": 64, "torchvision:shufflenet_v2_x0_5": 64,
    "timm:swin_tiny_patch4_window7_224": 224, "timm:coatnet_nano_rw_224": 224,
    "timm:mixer_s32_224": 224, "timm:deit_tiny_distilled_patch16_224": 224,
    "timm:densenet121": 64, "timm:inception_v3": 96, "timm:mobilenetv3_small_050": 64,
    "timm:regnety_002": 64, "timm:vit_small_patch14_reg4_dinov2": 56,
}  # fmt: skip


def check_network(name, size):
    backbone = build(name, size)
    names = [one for block in backbone.blocks for one in backbone.tensors_of([block])]
    assert sorted(names) == sorted(tensor_names(backbone.net))
    assert {backbone.block_of(one) for one in names} == {*backbone.blocks}
    head = backbone.tensors_of(backbone.blocks[-1:])
    assert f"{backbone.head}.weight" in head
    assert all(one.startswith(backbone.head.rpartition(".")[0]) for one in head)
    found = check(backbone)
    assert found.changed == []
    assert isinstance(found.cached, float), found.cached
    assert found.cached < 2e-4


@pytest.mark.parametrize(("name", "size"), FAST.items())
def test_every_depth_of_a_network(name, size):
    check_network(name, size)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), SLOW.items())
def test_every_depth_of_a_further_network(name, size):
    check_network(name, size)


def test_blocks_are_named_as_their_authors_do():
    expected = {
        "torchvision:resnet18": "stem layer1 layer2 layer3 layer4 fc",
        "timm:tf_efficientnet_lite0": (
            "stem blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 blocks.5 blocks.6 classifier"
        ),
        "timm:convnext_atto": "stem stages.0 stages.1 stages.2 stages.3 head.fc",
        "timm:vit_tiny_patch16_224": (
            "patch_embed " + " ".join(f"blocks.{i}" for i in range(12)) + " head"
        ),
    }
    for name, blocks in expected.items():
        assert list(build(name, 64).blocks) == blocks.split()


def test_blocks_within_one_part_of_a_network_have_names_of_their_own():
    """Both were a traceback; rdnet has no coarse groups, and its fine ones are stages."""
    stages = " ".join(f"dense_stages.{i}" for i in range(7))
    expected = {
        "timm:nest_tiny": "patch_embed levels.0 levels.1 levels.2 head",
        "timm:rdnet_tiny": f"stem {stages} head.fc",
    }
    for name, blocks in expected.items():
        backbone = build(name, 224)
        assert list(backbone.blocks) == blocks.split()
        # The output of a block is that of its own module, not of the part that holds several.
        first, second = (backbone.blocks[i] for i in (1, 2))
        assert backbone.module_of(first) is backbone.net.get_submodule(first)
        assert backbone.module_of(second) is backbone.net.get_submodule(second)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:tf_efficientnet_lite0"])
def test_new_blocks_depend_only_on_the_seed_and_bring_their_buffers(name):
    one, other = build(name, 64), build(name, 64)
    images = torch.randn(4, 3, 64, 64)
    one.train()(images)  # moves the statistics of every BatchNorm
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one.initialise("own", 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, other.state()[key]) for key, value in one.state().items())
    kept = one.blocks[:2]
    copied = {key: value.clone() for key, value in one.state().items()}
    one.initialise("own", 1, one.blocks[2:])
    changed = {one.block_of(k) for k, v in one.state().items() if not torch.equal(v, copied[k])}
    assert changed == {*one.blocks[2:]}
    assert kept == one.blocks[:2]


@pytest.mark.parametrize("classes", [2, 30])
@pytest.mark.parametrize(
    "name",
    [
        *("torchvision:resnet18", "torchvision:densenet121", "torchvision:mobilenet_v3_small"),
        *("torchvision:efficientnet_b0", "torchvision:shufflenet_v2_x0_5"),
        *("timm:tf_efficientnet_lite0", "timm:test_vit"),
    ],
)
def test_a_scaled_head_starts_at_ln_k(name, classes):
    library, own = name.split(":")
    model = Model(library=library, name=own, input_size=64, initialisation="lsuv")
    backbone = build_backbone(model, classes)
    backbone.initialise("lsuv", 0)
    images = 3 + 20 * torch.randn(16, 3, 64, 64)
    before = {key: value.clone() for key, value in backbone.state().items()}
    backbone.train()
    scale_outputs(backbone, images)
    assert all(module.training for module in backbone.net.modules())
    changed = {k for k, v in backbone.state().items() if not torch.equal(v, before[k])}
    assert changed - {f"{backbone.head}.bias"} == {f"{backbone.head}.weight"}
    with torch.no_grad():  # as in the first training step, with dropout and statistics of the batch
        loss = F.cross_entropy(backbone(images), torch.arange(16) % classes)
    assert float(loss) == pytest.approx(math.log(classes), abs=0.3)


def test_one_image_scales_a_head_too():
    backbone = build("torchvision:mobilenet_v3_small", 32)
    scale_outputs(backbone.train(), torch.randn(1, 3, 32, 32))
    assert all(value.isfinite().all() for value in backbone.state().values())


def test_fixed_modules_are_those_of_the_frozen_blocks_and_before_them():
    backbone = build("torchvision:resnet18", 64)
    names = {*fixed_modules(backbone, backbone.before("layer2"))}
    assert {"conv1", "bn1", "relu", "maxpool", "layer1", "layer1.1.bn2"} <= names
    assert not {name for name in names if name.startswith(("layer2", "layer3", "fc"))}
    assert fixed_modules(backbone, ()) == []


def test_a_module_with_two_names_is_in_one_block():
    net = torch.nn.Sequential()
    net.stem, net.fc = torch.nn.Linear(3, 3), torch.nn.Linear(3, CLASSES)
    net.inner = torch.nn.ModuleDict({"again": net.stem})
    blocks = {"stem": ["stem.weight", "stem.bias"], "fc": ["fc.weight", "fc.bias"]}
    backbone = Backbone(
        net, blocks=blocks, head="fc", classifier=["fc"], input=InputSpec(64), initialise=print
    )
    assert backbone.block_of("inner.again.weight") == "stem"
    assert [*backbone.state()] == [*blocks["stem"], *blocks["fc"]]
    assert [*backbone.state(["stem"])] == blocks["stem"]
    assert {*backbone.net.state_dict()} - {*backbone.state()} == {
        "inner.again.weight", "inner.again.bias",
    }  # fmt: skip


def test_cached_features_are_not_changed_by_operations_in_place():
    backbone = build("torchvision:mobilenet_v3_small", 64)  # its dropout works in place
    prefix = FrozenPrefix(backbone, backbone.blocks[-1:])
    features = prefix.features(torch.randn(3, 3, 64, 64))
    before = features.clone()
    prefix.rest(features, training=True)
    assert torch.equal(features, before)


def test_a_network_that_cannot_be_traced_says_so():
    class Odd(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    backbone = build("torchvision:resnet18", 64)
    backbone.net.fc = Odd(512, CLASSES)
    with pytest.raises(NoSplit, match="cannot be traced"):
        FrozenPrefix(backbone, ["fc"])
    fixed = fixed_modules(backbone, backbone.blocks[:-1])
    norms = torch.nn.BatchNorm2d
    assert {n for n, m in backbone.net.named_modules() if isinstance(m, norms)} <= {*fixed}


def test_branches_on_further_arguments_are_those_of_their_defaults():
    """Traced without values, `mask is not None` is true, and the parts use a mask of None."""

    class Masked(ResNet):
        def forward(self, x, mask=None, scale=2):
            if mask is not None:
                x = x * mask.view(-1, 1, 1, 1)
            return super().forward(x * scale if scale > 1 else x)

    backbone = build("torchvision:resnet18", 64)
    backbone.net.__class__ = Masked
    backbone.eval()
    images = torch.randn(3, 3, 64, 64)
    prefix = FrozenPrefix(backbone, backbone.blocks[-2:])
    with torch.no_grad():
        found = prefix.rest(prefix.features(images), training=False)
        torch.testing.assert_close(found, backbone(images))


class Windows(torch.nn.Module):
    """Gives the rest several rows per image, a size, and numbers that depend on the images."""

    def __init__(self, by_image):
        super().__init__()
        self.by_image = by_image

    def forward(self, x):
        size = x.shape
        rows = x.flatten(2).transpose(1, 2).reshape(-1, size[1])
        if not self.by_image:  # all first rows, then all second ones
            rows = rows.view(size[0], -1, size[1]).transpose(0, 1).reshape(-1, size[1])
        return rows, size


class Joined(torch.nn.Linear):
    def forward(self, pair):
        rows, size = pair
        kept = rows.view(size[0], size[2] * size[3], size[1])
        return super().forward(kept.mean(1))


class Unflattened(ResNet):
    """A residual network whose head gets the windows."""

    def _forward_impl(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.flattened(x))


@pytest.mark.parametrize("by_image", [True, False])
def test_rows_of_an_image_in_the_first_dimension(by_image):
    backbone = build("torchvision:resnet18", 64)
    backbone.net.avgpool, backbone.net.flattened = torch.nn.Identity(), Windows(by_image)
    backbone.net.fc = Joined(512, CLASSES)
    backbone.net.__class__ = Unflattened
    backbone.eval()
    images = torch.randn(5, 3, 64, 64)
    prefix = FrozenPrefix(backbone, ["fc"])
    with torch.no_grad():
        if not by_image:
            with pytest.raises(NoSplit, match="something else"):
                prefix.features(images)
            return
        found = prefix.rest(prefix.features(images), training=False)
        torch.testing.assert_close(found, backbone(images))


@pytest.mark.parametrize(("library", "name"), [("torchvision", "resnet18"), ("timm", "resnet10t")])
@pytest.mark.parametrize("option", ["num_classes", "name", "make", "nonsense"])
def test_options_that_the_network_cannot_have_are_refused(library, name, option):
    line = rf"model\.options={{'{option}': 3}}: the network cannot be made"
    with pytest.raises(UserError, match=line):
        build_backbone(Model(library, name, options={option: 3}), CLASSES)


def test_features_of_the_head():
    for backbone in (build("torchvision:resnet18", 64), alexnet_backbone(3, input=InputSpec(67))):
        images = torch.randn(2, 3, backbone.input.size, backbone.input.size)
        features, logits = backbone.eval().embed(images)
        head = backbone.net.get_submodule(backbone.head)
        torch.testing.assert_close(head(features), logits)
        torch.testing.assert_close(backbone(images), logits)
        assert not head._forward_pre_hooks


def lite0(**changes):
    values = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": 224, **changes}
    return Model(
        **{"library": "timm", "name": "tf_efficientnet_lite0", "initialisation": "own", **values}
    )


def small_swin(width):
    """A Swin transformer of timm at input size 48, whose first maps are 12 x 12."""
    options = {"embed_dim": width, "depths": (1, 1), "num_heads": (1, 1), "window_size": 6}
    name = "swin_tiny_patch4_window7_224"
    return build_backbone(Model(library="timm", name=name, input_size=48, options=options), 3)


@pytest.mark.parametrize("width", [8, 12])
def test_channel_means_of_maps_whose_channels_are_last(width):
    network = small_swin(width).eval()
    blocks = network.blocks[:-1]
    with torch.no_grad(), network.watched(blocks) as outputs:
        network(torch.randn(2, 3, 48, 48))
    assert tuple(outputs[blocks[0]].shape) == (2, 12, 12, width)
    for block in blocks:
        means = network.channel_means(outputs[block])
        assert torch.equal(means, outputs[block].mean((1, 2))), block


def test_channel_means_of_other_outputs():
    network = alexnet_backbone(3, input=InputSpec(67))
    for shape in ((2, 3, 5, 5), (2, 5, 5, 5), (2, 5, 1, 1)):
        maps = torch.rand(shape)
        assert torch.equal(network.channel_means(maps), maps.mean((2, 3)))
    tokens, vectors = torch.rand(2, 7, 16), torch.rand(2, 9)
    assert torch.equal(network.channel_means(tokens), tokens.mean(1))
    assert torch.equal(network.channel_means(vectors), vectors)
    swin, maps = build("torchvision:swin_t", 64), torch.rand(2, 5, 5, 5)
    assert torch.equal(swin.channel_means(maps), maps.mean((1, 2)))


def test_the_packaged_imagenet_weights_fit_and_are_not_random():
    state = read_weights("efficientnet-lite0", lite0())
    backbone = build_backbone(lite0(), 1000)
    copy_blocks(backbone, state)
    assert all(torch.equal(state[key], value) for key, value in backbone.net.state_dict().items())
    statistics = [v for k, v in backbone.state().items() if k.endswith("running_var")]
    assert all(float((one - 1).abs().max()) > 0.05 for one in statistics)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"mean": [0.4] * 3}, r"expect input of mean=\[0\.5, 0\.5, 0\.5\]"),
        ({"std": [0.2] * 3}, r"Set model\.mean and model\.std"),
        ({"name": "resnet18"}, "do not fit model.name=resnet18"),
    ],
)
def test_weights_for_another_input_or_network_are_refused(changes, line):
    with pytest.raises(UserError, match=line):
        read_weights("efficientnet-lite0", lite0(**changes))


def test_published_weights_whose_names_or_input_differ_from_those_of_the_network(monkeypatch):
    """torchvision's files of DenseNet have old names; GoogLeNet's weights rescale the input."""
    own = build("torchvision:densenet121", 64).state()
    old = {
        re.sub(r"\.(norm|relu|conv)([12])\.", r".\1.\2.", name): one for name, one in own.items()
    }
    assert any(name.endswith("denselayer1.norm.1.weight") for name in old)
    content = {"densenet121": old, "googlenet": build("torchvision:googlenet", 64).state()}
    content["googlenet"]["aux1.fc1.weight"] = torch.zeros(1)
    given = lambda name: (content[name], InputSpec(224))  # noqa: E731
    monkeypatch.setattr(library_weights, "torchvision_weights", given)

    def read(name, **options):
        model = Model(library="torchvision", name=name, initialisation="own", options=options)
        return read_weights("torchvision", model)

    found = read("densenet121")
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], one) for name, one in own.items())
    with pytest.raises(UserError, match=r"model\.options\.transform_input=true"):
        read("googlenet")
    assert "aux1.fc1.weight" not in read("googlenet", transform_input=True)


def test_weights_of_a_library_from_a_file(tmp_path, caplog):
    backbone = build("torchvision:resnet18", 64)
    model = Model(library="torchvision", name="resnet18", input_size=64, initialisation="own")
    state = {f"module.{key}": value for key, value in backbone.state().items()}
    for number, content in enumerate((state, {"state_dict": state}, {"model": {"net": state}})):
        torch.save(content, tmp_path / f"{number}.PTH")
        found = read_weights(tmp_path / f"{number}.PTH", model)
        assert found.keys() == backbone.state().keys()
        assert all(torch.equal(found[key], value) for key, value in backbone.state().items())
    assert not caplog.records
    del state["module.fc.bias"]
    torch.save({**state, "module.other": torch.zeros(3)}, tmp_path / "more.pth.tar")
    found = read_weights(tmp_path / "more.pth.tar", model)
    assert len(found) == len(backbone.state()) - 1
    assert [record.message.split()[0] for record in caplog.records] == ["+", "-"]
    with pytest.raises(UserError, match=r"fc\.bias: file nothing"):
        copy_blocks(backbone, found)
    torch.save({"a": torch.zeros(2)}, tmp_path / "none.pt")
    with pytest.raises(UserError, match="no tensor has a name of this network"):
        read_weights(tmp_path / "none.pt", model)
    state["module.conv1.weight"] = state["module.conv1.weight"] * math.inf
    torch.save(state, tmp_path / "broken.pt")
    with pytest.raises(UserError, match=r"conv1\.weight has values that are not finite"):
        read_weights(tmp_path / "broken.pt", model)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torchvision:resnet18", "layer4"),
        ("torchvision:vgg11", "features.18"),
        ("torchvision:mobilenet_v3_small", "features.12"),
        ("torchvision:convnext_tiny", "features.7"),
        ("timm:tf_efficientnet_lite0", "bn2"),
        ("timm:vit_tiny_patch16_224", "norm"),
    ],
)
def test_the_last_feature_map_before_the_classifier(name, expected):
    backbone = build(name, 64)
    backbone.train()
    before = {key: value.clone() for key, value in backbone.state().items()}
    assert backbone.feature_map == expected
    assert all(module.training for module in backbone.modules())
    assert all(torch.equal(value, before[key]) for key, value in backbone.state().items())
