import copy
import warnings
from collections import OrderedDict

import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stagetransfer.errors import UserError
from stagetransfer.explain import deconvnet, desalinet, salinet
from stagetransfer.models import AlexNet, LocalResponseNorm, initialise


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Use one thread: for networks as small as these, several mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    initialise(network, "kaiming", generator=torch.Generator().manual_seed(1))
    network.double()
    images = torch.randn(1, 3, side, side, dtype=torch.float64)
    names = [name for name, _ in network.named_children()]
    methods = list(METHODS.values())
    for number, layer in enumerate(names, start=1):
        some = methods if layer in ("pool5", "fc8") else [methods[number % len(methods)]]
        for method, relu, lrn in some:
            expected = through_autograd(network[:number], images, relu, lrn)
            assert close(method(network, images, layer), expected)


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
    names = [name for name, _ in network.named_children()]
    part = Score(network[: names.index("pool5") + 1])
    assert close(desalinet(network, images), captum(GuidedBackprop, part, images), 1e-15)
    assert close(deconvnet(network, images), captum(Deconvolution, part, images), 1e-15)
    for ours, theirs in ((desalinet, GuidedBackprop), (deconvnet, Deconvolution)):
        result = ours(network, images, seed=("class", 3))
        assert close(result, captum(theirs, network, images, target=3), 1e-15)
        assert result.any()


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
            [{**vars(module), "_parameters": None} for module in network.modules()],
            [
                (id(p), p._version, p.requires_grad, p.stride(), p._backward_hooks)
                for p in parameters
            ],
            [(id(p.grad), p.grad._version) for p in parameters if p.grad is not None],
        ]
    )


@pytest.mark.parametrize("method", [desalinet, deconvnet, salinet])
@pytest.mark.parametrize("fails", [False, True])
def test_leaves_the_network_as_it_was(method, fails):
    network = small().to(memory_format=torch.channels_last)
    network.drop1.eval()
    network.fc2.weight.requires_grad_(False)
    network.conv1.weight.grad = torch.ones_like(network.conv1.weight)

    def hook(*_):
        raise AssertionError("a hook ran")

    for module in network:
        module.register_forward_hook(hook)
        module.register_forward_pre_hook(hook)
        module.register_full_backward_hook(hook)
    network.conv1.weight.register_hook(hook)
    if fails:
        network.add_module("tail", nn.Softmax(1))
    images = torch.randn(2, 3, 7, 7, requires_grad=True)
    before, values = state(network), copy.deepcopy(network.state_dict())
    rng, kept = torch.get_rng_state(), images.detach().clone()
    if fails:
        with pytest.raises(UserError, match=r"tail \(Softmax\)"):
            method(network, images, seed="class")
        with pytest.raises(UserError, match="outside"):
            method(network, images, "pool1", ("channel", 4))
        with pytest.raises(RuntimeError):
            method(network, images[:, :2], "pool1")
    else:
        result = method(network, images, "pool1")
        assert result.any()
        assert not result.requires_grad
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
    together = desalinet(network, images, seed="class")
    for i in range(3):
        assert close(together[i : i + 1], desalinet(network, images[i : i + 1], seed="class"))
    assert desalinet(network, images[:0], "fc2").shape == (0, 3, 7, 7)


def test_a_module_may_be_used_twice_and_a_layer_may_be_a_part():
    relu = nn.ReLU()
    inner = nn.Sequential(OrderedDict(a=nn.Conv2d(3, 3, 3), r=relu, b=nn.Conv2d(3, 3, 3), s=relu))
    network = nn.Sequential(OrderedDict(part=inner, end=nn.Softmax(1))).double()
    images = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    expected = through_autograd(inner, images, Guided.apply, "identity")
    assert close(desalinet(network, images, "part"), expected)
    assert close(desalinet(network, images, "part.s"), expected)


class Halved(nn.Conv2d):
    def forward(self, input):
        return super().forward(input) / 2


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = small()

    def forward(self, x):
        return self.features(x)


@pytest.mark.parametrize(
    ("network", "layer", "message"),
    [
        (nn.Sequential(OrderedDict(a=nn.ReLU(), b=nn.GELU())), "b", r"b \(GELU\): no rule"),
        (nn.Sequential(nn.Sequential(Halved(3, 3, 1))), "0.0", r"0\.0 \(Halved\): no rule"),
        (
            nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")),
            "0",
            r"0 \(Conv2d\)",
        ),
        (
            nn.Sequential(OrderedDict(net=Wrapped())),
            "net.features.pool1",
            r"net \(Wrapped\): no rule",
        ),
        (Wrapped(), "features.pool1", r"network \(Wrapped\): no rule"),
        (small(), "pool2", r"layer=pool2: .* Use one of conv1, relu1, norm1, pool1, drop1, flat"),
        (small(), "conv1.weight", r"layer=conv1\.weight: the network has no such layer"),
        (small(), "conv", r"layer=conv: the network has no such layer"),
    ],
)
def test_unsupported_modules_and_unknown_layers_are_named(network, layer, message):
    with pytest.raises(UserError, match=message):
        desalinet(network, torch.randn(1, 3, 7, 7), layer)


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 7, 7), torch.zeros(1, 3, 7, 7, dtype=torch.uint8)]
)
def test_other_tensors_than_images_are_refused(images):
    with pytest.raises(UserError, match=r"images: .* Use \(N, C, H, W\) floating point"):
        desalinet(small(), images, "pool1")


# Seeds: each is a vector of the vector-Jacobian product.


def vector(seed, y):
    v = torch.zeros_like(y)
    match seed:
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
    ("layer", "seed"),
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
def test_seeds(layer, seed, layout):
    network = small().double().eval()
    images = torch.randn(3, 3, 7, 7, dtype=torch.float64)
    part = network[:4] if layer == "pool1" and "class" not in seed else network
    y = part(images)
    expected = through_autograd(part, images, Guided.apply, "identity", vector(seed, y))
    result = desalinet(network, images.to(memory_format=layout), layer, seed)
    assert close(result, expected)
    assert expected.any()


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (("channel", 4), r"outside the output of pool1, which has the shape \(4, 3, 3\)"),
        (("channel", -1), "outside"),
        (("neuron", 36), "outside"),
        (("neuron", (0, 3, 0)), "outside"),
        (("neuron", (0, 0)), "outside"),
        (("class", 5), "outside the output of fc2"),
        (("filter", 1), r"seed=\('filter', 1\): unknown. Use 'features'"),
        ("pixels", "seed='pixels': unknown"),
        (3, "seed=3: unknown"),
        (("neuron",), "unknown"),
    ],
)
def test_seeds_outside_the_output_are_refused(seed, message):
    with pytest.raises(UserError, match=message):
        desalinet(small(), torch.randn(1, 3, 7, 7), "pool1", seed)


def test_a_class_seed_needs_class_scores():
    with pytest.raises(
        UserError, match=r"seed='class': the last layer pool1 has the output shape \(4, 3, 3\)"
    ):
        desalinet(small()[:4], torch.randn(1, 3, 7, 7), seed="class")
