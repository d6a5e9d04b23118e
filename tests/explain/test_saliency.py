import copy
import warnings
from collections import OrderedDict

import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stagetransfer.config.schema import Model
from stagetransfer.errors import UserError
from stagetransfer.explain import deconvnet, desalinet, salinet
from stagetransfer.explain.image_grids import first_filters
from stagetransfer.explain.saliency import default_method
from stagetransfer.models import (
    AlexNet,
    InputSpec,
    LocalResponseNorm,
    accelerate,
    alexnet_backbone,
    build_backbone,
    initialise,
)
from stagetransfer.models.alexnet import LAYERS

# The reference is autograd itself, with the backward pass of ReLU and LRN replaced.


class Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g.clamp(min=0) * (ctx.saved_tensors[0] > 0)


class Override(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g.clamp(min=0)


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, norm):
        return norm(x)

    @staticmethod
    def backward(ctx, g):
        return g, None


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


def through_autograd(network, images, relu, lrn, seed=None):
    """Return the vector-Jacobian product of the network for its own output or for `seed`."""

    def replaced(module):
        if isinstance(module, nn.Sequential):
            return nn.Sequential(*(replaced(child) for child in module))
        if isinstance(module, nn.Dropout):
            return nn.Identity()
        if isinstance(module, nn.ReLU):
            return Lambda(relu)
        if isinstance(module, nn.LocalResponseNorm):
            norm = nn.LocalResponseNorm(module.size, module.alpha, module.beta, module.k)
            return norm if lrn == "gradient" else Lambda(lambda x: StraightThrough.apply(x, norm))
        return module

    x = images.clone().requires_grad_()
    y = replaced(network)(x)
    return torch.autograd.grad(y, x, y.detach() if seed is None else seed)[0]


METHODS = {
    "desalinet": (desalinet, Guided.apply, "identity"),
    "desalinet, LRN's gradient": (
        lambda *given, **named: desalinet(*given, **named, lrn="gradient"),
        Guided.apply,
        "gradient",
    ),
    "deconvnet": (deconvnet, Override.apply, "identity"),
    "salinet": (salinet, lambda x: x.clamp(min=0), "gradient"),
}


def up_to(network, layer):
    names = list(dict(network.named_children()))
    return nn.Sequential(*network.children())[: names.index(layer) + 1]


def library_network(library, name, size=64):
    """Return a network with running statistics that differ from their initial values."""
    torch.manual_seed(0)
    network = build_backbone(Model(library, name, input_size=size), 5)
    with torch.no_grad():
        network(torch.randn(4, 3, size, size))
    return network.double()


def close(a, b, tolerance=1e-12):
    return a.shape == b.shape and (a - b).abs().max() <= tolerance * b.abs().max()


@st.composite
def blocks(draw, channels):
    """Draw a convolution and a ReLU, with or without LRN and a pool."""
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride = draw(st.sampled_from([1, 1, 2]))
    padding = "same" if stride == 1 and draw(st.booleans()) else draw(st.integers(0, 2))
    convolution = nn.Conv2d(
        channels,
        2 * draw(st.integers(1, 3)),
        kernel,
        stride,
        padding,
        dilation=draw(st.integers(1, 2)),
        groups=draw(st.sampled_from([1, 2])) if channels % 2 == 0 else 1,
        bias=draw(st.booleans()),
    )
    parts = OrderedDict(conv=convolution, relu=nn.ReLU(inplace=draw(st.booleans())))
    if draw(st.booleans()):
        kind = draw(st.sampled_from([nn.LocalResponseNorm, LocalResponseNorm]))
        parts["norm"] = kind(draw(st.integers(1, 5)), 0.5, draw(st.sampled_from([0.75, 1.0])))
    if draw(st.booleans()):
        parts["pool"] = nn.MaxPool2d(
            draw(st.integers(2, 3)),
            draw(st.integers(1, 2)),
            padding=draw(st.integers(0, 1)),
            dilation=draw(st.integers(1, 2)),
            ceil_mode=draw(st.booleans()),
        )
    return nn.Sequential(parts)


@st.composite
def networks(draw):
    """Draw nested blocks, with or without linear layers at the end."""
    modules = OrderedDict()
    images = torch.zeros(1, 3, 17, 14)
    channels = 3
    for block in range(draw(st.integers(1, 3))):
        parts = draw(blocks(channels))
        try:
            images = parts(images)
        except RuntimeError:  # the maps are too small for this block's windows
            break
        if images.isinf().any():  # a window holds padding alone, where PyTorch itself crashes
            break
        modules[f"block{block}"] = parts
        channels = images.shape[1]
    if draw(st.booleans()):
        modules["avgpool"] = nn.AdaptiveAvgPool2d(draw(st.integers(1, 3)))
        modules["flatten"] = nn.Flatten()
        side = modules["avgpool"].output_size
        modules["fc1"] = nn.Linear(channels * side**2, 6)
        modules["relu"] = nn.ReLU()
        modules["drop"] = nn.Dropout()
        modules["fc2"] = nn.Linear(6, 4)
    return nn.Sequential(modules)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=60, deadline=None)
@given(network=networks(), seed=st.integers(0, 999), train=st.booleans())
def test_is_the_vector_jacobian_product(network, seed, train):
    generator = torch.Generator().manual_seed(seed)
    network = network.double().train(train)
    for parameter in network.parameters():
        parameter.data.normal_(generator=generator)
    images = torch.randn(2, 3, 17, 14, dtype=torch.float64, generator=generator)
    last = list(dict(network.named_children()))[-1]
    for method, relu, lrn in METHODS.values():
        expected = through_autograd(network, images, relu, lrn)
        assert close(method(network, images, last), expected)


@pytest.mark.parametrize("variant", ["paper", "bvlc", "torchvision"])
def test_alexnet_at_every_layer(variant):
    side = 63 if variant == "torchvision" else 39  # the smallest
    network = AlexNet(5, variant, input_size=side)
    initialise(network, LAYERS, "kaiming", 1)
    network.double()
    images = torch.randn(1, 3, side, side, dtype=torch.float64)
    methods = list(METHODS.values())
    for number, layer in enumerate(dict(network.named_children()), start=1):
        some = methods if layer in ("pool5", "fc8") else [methods[number % len(methods)]]
        for method, relu, lrn in some:
            expected = through_autograd(up_to(network, layer), images, relu, lrn)
            assert close(method(network, images, layer), expected)


def test_a_backbone_has_a_feature_map_blocks_and_faster_operators():
    backbone = alexnet_backbone(5, input=InputSpec(67)).double()
    images = torch.randn(2, 3, 67, 67, dtype=torch.float64)
    plain = copy.deepcopy(backbone.net)
    accelerate(backbone)
    assert torch.equal(desalinet(backbone, images), desalinet(plain, images, "pool5"))
    # A name that is both a block's and a module's is the module.
    assert torch.equal(desalinet(backbone, images, "conv3"), desalinet(plain, images, "conv3"))
    resnet = library_network("torchvision", "resnet18")
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    assert torch.equal(desalinet(resnet, images, "stem"), desalinet(resnet.net, images, "bn1"))
    with pytest.raises(UserError, match=r"layer=layer5: .* Use a block \(stem, layer1"):
        desalinet(resnet, images, "layer5")
    with pytest.raises(UserError, match="layer: a plain network states no feature map"):
        desalinet(resnet.net, images)


class Score(nn.Module):
    """One score per image, whose gradient at the part's output is that output itself."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        y = self.part(x)
        return (y * y.detach()).flatten(1).sum(1)


def captum(method, network, images, **target):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(network).attribute(images.clone().requires_grad_(), **target)


def test_equals_captum():
    network = AlexNet(4, "torchvision", input_size=67).double().eval()
    images = torch.randn(2, 3, 67, 67, dtype=torch.float64)
    part = Score(up_to(network, "pool5"))
    assert close(desalinet(network, images, "pool5"), captum(GuidedBackprop, part, images), 1e-15)
    assert close(deconvnet(network, images, "pool5"), captum(Deconvolution, part, images), 1e-15)
    for ours, theirs in ((desalinet, GuidedBackprop), (deconvnet, Deconvolution)):
        result = ours(network, images, start=("class", 3))
        assert close(result, captum(theirs, network, images, target=3), 1e-15)
        assert result.any()


@pytest.mark.parametrize("start", ["features", ("class", 3)])
def test_equals_captum_on_a_resnet(start):
    # Its blocks call one ReLU twice, in place, and add two paths.
    network = library_network("torchvision", "resnet18").eval()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for ours, theirs in ((desalinet, GuidedBackprop), (deconvnet, Deconvolution)):
        if start == "features":
            expected = captum(theirs, Score(up_to(network.net, "layer4")), images)
        else:
            expected = captum(theirs, network, images, target=3)
        assert close(ours(network, images, start=start), expected, 1e-10)
        assert expected.any()


def test_relu6_passes_where_it_is_neither_0_nor_6():
    x = torch.tensor([-1.0, 2.0, 7.0, 3.0]).view(1, 1, 2, 2).double()
    weights = nn.Conv2d(1, 1, 2, bias=False).double()
    weights.weight.data = torch.tensor([1.0, 1.0, 1.0, -1.0]).view(1, 1, 2, 2).double()
    for relu6 in (nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(0.0, 6.0)):
        network = nn.Sequential(relu6, weights)  # its output is 0 + 2 + 6 - 3 = 5
        maps = [
            method(network, x, "1").flatten().tolist() for method in (salinet, desalinet, deconvnet)
        ]
        assert maps == [[0, 5, 0, -5], [0, 5, 0, 0], [5, 5, 5, 0]]
    network[0] = nn.Hardtanh(-1.0, 6.0)  # is no ReLU: it keeps its own gradient
    assert salinet(network, x, "1").flatten().tolist() == [0, 4, 0, -4]


class Sum(nn.Module):
    """Add the output of a function to its input, which a function in place has changed."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def forward(self, x):
        x = x * 1.0
        y = self.functions(x)
        return x + y


@pytest.mark.parametrize(
    ("function", "in_place"),
    [
        (nn.functional.relu, False),
        (torch.relu, False),
        (torch.Tensor.relu, False),
        (lambda x: nn.functional.relu(input=x), False),
        (torch.relu_, True),
        (torch.Tensor.relu_, True),
        (nn.functional.relu_, True),
        (lambda x: nn.functional.relu(x, inplace=True), True),
        (nn.ReLU(inplace=True), True),
    ],
)
def test_every_form_of_relu_has_the_rule(function, in_place):
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    weights = nn.Conv2d(3, 2, 2).double()  # its signal is not 0 where ReLU is
    leaf = images.clone().requires_grad_()
    guided = Guided.apply(leaf)
    y = weights(2 * guided if in_place else leaf + guided)
    (expected,) = torch.autograd.grad(y, leaf, y.detach())
    assert close(desalinet(nn.Sequential(Sum(function), weights), images, "1"), expected)


@pytest.mark.parametrize(
    "dropout",
    [
        nn.functional.dropout,
        nn.functional.dropout2d,
        nn.functional.alpha_dropout,
        nn.functional.feature_alpha_dropout,
    ],
)
def test_dropout_that_never_ends_is_off(dropout):
    class Always(nn.Module):
        def forward(self, x):
            return dropout(x, 0.5, training=True)

    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(salinet(nn.Sequential(Always()), images, "0"), images)


@pytest.mark.parametrize(
    ("library", "name", "size", "found"),
    [
        ("timm", "vit_tiny_patch16_224", 32, "gelu, scaled_dot_product_attention"),
        ("timm", "convnext_atto", 64, "gelu"),
        ("timm", "efficientnet_b0", 64, "sigmoid, silu"),
        ("timm", "mobilenetv3_small_050", 64, "hardswish"),
    ],
)
def test_networks_with_other_activations_have_salinet_alone(library, name, size, found):
    network = library_network(library, name, size)
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    kind = type(network.net).__name__
    for method in (desalinet, deconvnet):
        for start in ("features", "class"):
            with pytest.raises(
                UserError, match=rf"^{method.__name__}: {kind} has {found} in the place .* salinet"
            ):
                method(network, images, start=start)
    assert default_method(network, images[:1]) == "salinet"
    leaf = images.clone().requires_grad_()
    scores = network.eval()(leaf)
    (expected,) = torch.autograd.grad(scores[:, 2].sum(), leaf)
    assert close(salinet(network, images, start=("class", 2)), expected)
    # Up to the first convolution there is no activation, so all methods are the gradient.
    first, _ = first_filters(network)
    assert torch.equal(desalinet(network, images, first), salinet(network, images, first))


@pytest.mark.parametrize(
    ("gate", "refused"),
    [(nn.Sigmoid(), False), (nn.Hardsigmoid(), False), (nn.Softmax(1), False), (nn.SiLU(), True)],
)
def test_a_gate_beside_relu(gate, refused):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.gate = nn.Conv2d(3, 4, 3), nn.ReLU(), gate

        def forward(self, x):
            y = self.relu(self.conv(x))
            return y * self.gate(y.mean((2, 3), keepdim=True))

    network, images = nn.Sequential(Gated()), torch.randn(2, 3, 8, 8)
    if refused:
        with pytest.raises(UserError, match="desalinet: Sequential has silu in the place of ReLU"):
            desalinet(network, images, "0")
    else:
        assert desalinet(network, images, "0").shape == images.shape


@pytest.mark.parametrize(
    ("library", "name"), [("torchvision", "resnet18"), ("timm", "tf_efficientnet_lite0")]
)
def test_library_networks(library, name):
    network = library_network(library, name)
    assert default_method(network, torch.zeros(1, 3, 64, 64, dtype=torch.float64)) == "desalinet"
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    leaf = images.clone().requires_grad_()
    with network.watched([network.blocks[-2]]) as outputs:
        network.eval()(leaf)
    (features,) = outputs.values()
    (expected,) = torch.autograd.grad(features, leaf, features.detach())
    assert close(salinet(network, images), expected)
    network.train().net.get_submodule(network.feature_map).eval()
    before, values = state(network), copy.deepcopy(network.state_dict())
    for method in (desalinet, deconvnet, salinet):
        maps = method(network, images)
        assert maps.any()
        assert close(maps[1:], method(network, images[1:]), 1e-9)
    assert state(network) == before
    for tensor_name, value in network.state_dict().items():
        assert torch.equal(value, values[tensor_name])


def test_a_maximum_of_several_windows_receives_their_sum():
    images = torch.zeros(1, 1, 5, 5)
    images[0, 0, 2, 2] = 3
    result = desalinet(nn.Sequential(nn.MaxPool2d(3, 2)), images, "0")
    assert result[0, 0, 2, 2] == 4 * 3


def test_lrn_by_identity_and_by_gradient():
    network = nn.Sequential(nn.LocalResponseNorm(3, 2.0))
    images = torch.randn(1, 4, 2, 2, dtype=torch.float64)
    y = network(images)
    assert close(desalinet(network, images, "0"), y)
    assert close(deconvnet(network, images, "0"), y)
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf), leaf, y)
    assert close(desalinet(network, images, "0", lrn="gradient"), gradient)
    assert close(salinet(network, images, "0"), gradient)
    assert not torch.allclose(gradient, y)
    with pytest.raises(UserError, match=r"lrn=exact: .* identity, gradient"):
        desalinet(network, images, "0", lrn="exact")


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 4, 3, padding=1),
            relu1=nn.ReLU(inplace=True),
            norm1=LocalResponseNorm(3, 0.5),
            pool1=nn.MaxPool2d(3, 2),
            drop1=nn.Dropout(),
            flatten=nn.Flatten(),
            fc2=nn.Linear(36, 5),
        )
    )


def state(network):
    """Return everything that modules and parameters hold, except the parameters' values."""
    parameters = [*network.parameters()]
    return repr(
        [
            [(type(one), {**vars(one), "_parameters": None}) for one in network.modules()],
            [
                (id(p), p._version, p.requires_grad, p.stride(), p._backward_hooks)
                for p in parameters
            ],
            [(id(p.grad), p.grad._version) for p in parameters if p.grad is not None],
        ]
    )


class Broken(nn.Module):
    def forward(self, x):
        raise ValueError("broken")


@pytest.mark.parametrize("method", [desalinet, deconvnet, salinet])
@pytest.mark.parametrize("fails", [False, True])
def test_leaves_the_network_as_it_was(method, fails):
    network = small().to(memory_format=torch.channels_last)
    network.drop1.eval()
    network.fc2.weight.requires_grad_(False)
    network.conv1.weight.grad = torch.ones_like(network.conv1.weight)
    network.add_module("tail", Broken() if fails else nn.Softmax(1))
    accelerate(network)

    def hook(*_):
        raise AssertionError("a hook ran")

    for module in network:
        module.register_forward_hook(hook)
        module.register_forward_hook(hook, with_kwargs=True, always_call=True)
        module.register_forward_pre_hook(hook)
        module.register_full_backward_hook(hook)
    network.conv1.weight.register_hook(hook)
    images = torch.randn(2, 3, 7, 7, requires_grad=True)
    before, values = state(network), copy.deepcopy(network.state_dict())
    rng, kept = torch.get_rng_state(), images.detach().clone()
    if fails:
        with pytest.raises(ValueError, match="broken"):
            method(network, images, start="class")
        with pytest.raises(UserError, match="outside"):
            method(network, images, "pool1", ("channel", 4))
        with pytest.raises(RuntimeError):
            method(network, images[:, :2], "pool1")
    else:
        result = method(network, images, "pool1")
        assert result.any()
        assert not result.requires_grad
        assert method(network, images, start="class").any()
    assert state(network) == before
    assert all(torch.equal(value, values[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.equal(images, kept)
    assert images.grad is None


@pytest.mark.parametrize("method", [desalinet, deconvnet, salinet])
def test_autograd_modes_and_precisions_do_not_change_the_maps(method):
    network = small()
    images = torch.randn(2, 3, 7, 7)
    expected = method(network, images, "fc2")
    with torch.inference_mode():
        assert torch.equal(method(network, images.clone(), "fc2"), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(method(network, images, "fc2"), expected)
    assert torch.allclose(
        method(network, images.to(memory_format=torch.channels_last), "fc2"), expected, atol=1e-6
    )
    half = method(network.bfloat16(), images.bfloat16(), "fc2")
    assert half.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(half.float().ravel(), expected.ravel(), 0) > 0.98


def test_images_do_not_influence_each_other():
    network, images = small().double(), torch.randn(3, 3, 7, 7, dtype=torch.float64)
    together = desalinet(network, images, start="class")
    for i in range(3):
        assert close(together[i : i + 1], desalinet(network, images[i : i + 1], start="class"))
    assert desalinet(network, images[:0], "fc2").shape == (0, 3, 7, 7)


def test_a_module_may_be_used_twice_and_a_layer_may_be_a_part():
    relu = nn.ReLU()
    inner = nn.Sequential(OrderedDict(a=nn.Conv2d(3, 3, 3), r=relu, b=nn.Conv2d(3, 3, 3), s=relu))
    network = nn.Sequential(OrderedDict(part=inner, end=nn.Softmax(1))).double()
    images = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    expected = through_autograd(inner, images, Guided.apply, "identity")
    assert close(desalinet(network, images, "part"), expected)
    assert close(desalinet(network, images, "part.s"), expected)
    expected = through_autograd(inner[:2], images, Guided.apply, "identity")
    assert close(desalinet(network, images, "part.r"), expected)


def test_what_comes_after_the_layer_does_not_run():
    images = torch.randn(1, 3, 4, 4)
    for layer in (nn.ReLU(), nn.Conv2d(3, 3, 1)):
        assert desalinet(nn.Sequential(layer, Broken()), images, "0").any()


def test_a_network_that_was_made_in_inference_mode():
    torch.manual_seed(0)
    with torch.inference_mode():
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    images = torch.randn(2, 3, 5, 5)
    normal = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    normal.load_state_dict({name: value.clone() for name, value in network.state_dict().items()})
    assert torch.equal(desalinet(network, images, "2"), desalinet(normal, images, "2"))
    assert network[0].weight.is_inference()


class Halved(nn.Conv2d):
    def forward(self, input):
        return super().forward(input) / 2


class Wrapped(nn.Module):
    """A network that calls one ReLU twice, a layer with parameters twice, and one never."""

    def __init__(self):
        super().__init__()
        self.inner = Halved(3, 3, 3, padding=1, padding_mode="reflect")
        self.relu = nn.ReLU()
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.relu(self.inner(self.relu(self.inner(x))))


class ChangedLater(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(1)
        self.late = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.late(self.pool(self.relu(x)).mul_(3))


def test_a_layer_is_taken_before_later_changes_in_place():
    images = torch.randn(2, 3, 5, 5)
    kept = images.clone()
    assert torch.equal(desalinet(ChangedLater(), images, "pool"), images.relu())
    assert torch.equal(images, kept)


def test_any_module_and_which_call_of_it():
    torch.manual_seed(1)
    network, images = Wrapped().double(), torch.randn(2, 3, 5, 5, dtype=torch.float64)
    leaf = images.clone().requires_grad_()
    once = network.inner(leaf)
    twice = Guided.apply(network.inner(Guided.apply(once)))
    for layer, y in (("inner", once), ("relu", twice)):
        (expected,) = torch.autograd.grad(y, leaf, y.detach(), retain_graph=True)
        assert close(desalinet(network, images, layer), expected)
    with pytest.raises(UserError, match=r"layer=unused: the network does not call it"):
        desalinet(network, images, "unused")


@pytest.mark.parametrize(
    ("network", "layer", "message"),
    [
        (small(), "pool2", r"layer=pool2: .* Use one of conv1, relu1, norm1, pool1, drop1, flat"),
        (small(), "conv1.weight", r"layer=conv1\.weight: the network has no such layer"),
        (small(), "conv", r"layer=conv: the network has no such layer"),
        (small(), "", r"layer=: the network has no such layer"),
        (nn.Sequential(nn.Flatten(2), nn.LSTM(49, 2)), "1", r"layer=1: .* it returns no tensor"),
    ],
)
def test_unusable_layers_are_named(network, layer, message):
    with pytest.raises(UserError, match=message):
        desalinet(network, torch.randn(1, 3, 7, 7), layer)


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 7, 7), torch.zeros(1, 3, 7, 7, dtype=torch.uint8)]
)
def test_other_tensors_than_images_are_refused(images):
    with pytest.raises(UserError, match=r"images: .* Use \(N, C, H, W\) floating point"):
        desalinet(small(), images, "pool1")


# Seeds: each is a vector of the vector-Jacobian product.


def vector(start, y):
    v = torch.zeros_like(y)
    match start:
        case ("channel", c):
            v[:, c] = y[:, c]
        case ("neuron", (c, row, column)):
            v[:, c, row, column] = 1
        case ("neuron", i):
            v.view(len(v), -1)[:, i] = 1
        case ("class", k):
            v[:, k] = 1
        case "class":
            v[range(len(v)), y.argmax(1)] = 1
    return v


@pytest.mark.parametrize(
    ("layer", "start"),
    [
        ("pool1", ("channel", 2)),
        ("pool1", ("neuron", (1, 2, 0))),
        ("pool1", ["neuron", [1, 2, 0]]),  # as it comes from YAML
        ("pool1", ("neuron", 30)),
        ("fc2", ("neuron", 4)),
        ("pool1", ("class", 1)),
        ("pool1", "class"),
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_starts(layer, start, layout):
    network = small().double().eval()
    images = torch.randn(3, 3, 7, 7, dtype=torch.float64)
    part = network[:4] if layer == "pool1" and "class" not in start else network
    y = part(images)
    expected = through_autograd(part, images, Guided.apply, "identity", vector(start, y))
    result = desalinet(network, images.to(memory_format=layout), layer, start)
    assert close(result, expected)
    assert expected.any()


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (("channel", 4), r"outside the output of pool1, which has the shape \(4, 3, 3\)"),
        (("channel", -1), "outside"),
        (("neuron", 36), "outside"),
        (("neuron", (0, 3, 0)), "outside"),
        (("neuron", (0, 0)), "outside"),
        (("class", 5), "outside the output of the network"),
        (("filter", 1), r"start=\('filter', 1\): unknown. Use 'features'"),
        ("pixels", "start='pixels': unknown"),
        (3, "start=3: unknown"),
        (("neuron",), "unknown"),
    ],
)
def test_starts_outside_the_output_are_refused(start, message):
    with pytest.raises(UserError, match=message):
        desalinet(small(), torch.randn(1, 3, 7, 7), "pool1", start)


def test_a_class_start_needs_class_scores():
    with pytest.raises(
        UserError, match=r"start='class': the output of the network has the shape \(4, 3, 3\)"
    ):
        desalinet(small()[:4], torch.randn(1, 3, 7, 7), start="class")
