import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stagetransfer.models import WinogradConv2d
from stagetransfer.models import winograd as convolution
from stagetransfer.models.winograd import _Plan, toom_cook


def images(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, dtype=dtype, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


def pair(channels=64, filters=96, kernel=5, **options):
    """PyTorch's layer and ours with the same weights; the default padding is 2."""
    torch.manual_seed(1)
    options = {"padding": 2} | options
    plain = nn.Conv2d(channels, filters, kernel, **options)
    ours = WinogradConv2d(channels, filters, kernel, **options)
    ours.load_state_dict(plain.state_dict())
    return plain, ours


def gradients(layer, x):
    leaf = x.detach().clone().requires_grad_()
    y = layer(leaf)
    outer = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    wanted = [leaf, *layer.parameters()]
    return [y.detach(), *torch.autograd.grad(y, wanted, outer)]


def error(found, exact):
    found, exact = found.detach().double(), exact.detach().double()
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("r", [3, 5])
@pytest.mark.parametrize("m", convolution._TILE_SIDES)
def test_one_dimension_equals_a_correlation(m, r):
    a, b, g = toom_cook(m, r)
    random = np.random.default_rng(0)
    pixels, weights = random.normal(size=m + r - 1), random.normal(size=r)
    found = a.T @ ((g @ weights) * (b @ pixels))
    np.testing.assert_allclose(found, np.correlate(pixels, weights), rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(1, 5),
    height=st.integers(1, 15),
    width=st.integers(1, 15),
    kernel=st.sampled_from([3, 5]),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    bias=st.booleans(),
    m=st.sampled_from(convolution._TILE_SIDES),
    chunk=st.sampled_from([1, 20_000, 10**9]),
    seed=st.integers(0, 99),
)
def test_equals_pytorch_in_float64(number, height, width, kernel, padding, bias, m, chunk, seed):
    """Output and all gradients, for partly filled tiles and any split of the batch."""
    plain, ours = pair(2, 3, kernel, padding=padding, bias=bias)
    if height + 2 * padding[0] < kernel or width + 2 * padding[1] < kernel:
        return
    x = images(number, 2, height, width, seed=seed, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "_DTYPE", torch.float64)
        patch.setattr(convolution, "_TILE_SIDES", [m])
        patch.setattr(convolution, "_CHUNK", chunk)
        patch.setattr(_Plan, "pays", lambda *_, **__: True)
        assert ours.double()._plan(x) is not None
        found = gradients(ours, x)
    for mine, theirs in zip(found, gradients(plain.double(), x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("channels", "filters", "kernel", "side"),
    [(96, 256, 5, 27), (64, 192, 5, 27), (256, 384, 3, 13), (384, 256, 3, 13), (96, 256, 5, 9)],
)
def test_float32_error_is_within_the_documented_bounds(channels, filters, kernel, side):
    plain, ours = pair(channels, filters, kernel, padding=kernel // 2)
    x = images(8, channels, side, side).relu_()
    assert ours._plan(x) is not None
    exact = gradients(copy.deepcopy(plain).double(), x.double())
    errors = map(error, gradients(ours, x), exact)
    for found, most in zip(errors, (5e-5, 2e-4, 1e-5, 1e-6), strict=True):
        assert found < most * {3: 0.4, 5: 1}[kernel]


@pytest.mark.parametrize(
    ("options", "x"),
    [
        ({}, images(8, 64, 20, 20).contiguous()),
        ({"stride": 2}, images(8, 64, 40, 40)),
        ({"dilation": 2}, images(8, 64, 20, 20)),
        ({"groups": 2}, images(8, 64, 20, 20)),
        ({"padding": "same"}, images(8, 64, 20, 20)),
        ({"padding_mode": "reflect"}, images(8, 64, 20, 20)),
        ({"kernel": 7}, images(8, 64, 20, 20)),
        ({"kernel": (3, 5), "padding": 1}, images(8, 64, 20, 20)),
        ({"channels": 16}, images(8, 16, 20, 20)),
        ({"filters": 16}, images(8, 64, 20, 20)),
        ({"kernel": 3, "padding": 1}, images(80, 64, 1, 1)),
        ({}, images(8, 64, 20, 20)[0]),
        ({}, images(0, 64, 20, 20)),
        ({}, images(8, 64, 20, 20, dtype=torch.float64)),
    ],
)
def test_other_cases_use_pytorchs_convolution(options, x):
    plain, ours = pair(**options)
    for mine, theirs in zip(
        gradients(ours.to(x.dtype), x), gradients(plain.to(x.dtype), x), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_can_be_turned_off():
    plain, ours = pair()
    x = images(8, 64, 20, 20)
    assert not torch.equal(ours(x), plain(x))
    ours.winograd = False
    assert torch.equal(ours(x), plain(x))


@pytest.mark.parametrize("input_dtype", [torch.float32, torch.bfloat16])
def test_autocast_computes_in_float32_where_that_pays(input_dtype):
    plain, ours = pair(96, 256, 5)
    x = images(2, 96, 27, 27).to(input_dtype).requires_grad_()
    outer = images(2, 256, 27, 27, seed=1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = ours(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, ours(x.float()).bfloat16())
    found = torch.autograd.grad(y, [x, *ours.parameters()], outer)
    assert [one.dtype for one in found] == [input_dtype, torch.float32, torch.float32]
    double = x.detach().double().requires_grad_()
    wanted = [double, *plain.double().parameters()]
    exact = torch.autograd.grad(plain(double), wanted, outer.double())
    for mine, theirs in zip(found, exact, strict=True):
        assert error(mine, theirs) < (2e-3 if mine.dtype == torch.bfloat16 else 5e-4)


def test_autocast_uses_pytorchs_convolution_elsewhere():
    plain, ours = pair(128, 128, 3, padding=1)
    x = images(8, 128, 8, 8)
    assert ours._plan(x) is not None
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x), plain(x))


@pytest.mark.parametrize(
    ("channels", "filters", "kernel", "side", "used"),
    [
        (96, 256, 5, 27, True),  # conv2 of AlexNet at input 227
        (384, 384, 3, 4, True),  # conv4 at input 83
        (256, 256, 3, 14, True),  # layer3 of ResNet-18 at input 224
        (64, 64, 3, 56, False),  # layer1: its transforms take longer than its products
        (512, 512, 3, 2, False),  # layer4 at input 64: so do those of its filters
        (128, 32, 3, 28, False),  # DenseNet
    ],
)
def test_which_layers_it_is_used_for(channels, filters, kernel, side, used):
    _, ours = pair(channels, filters, kernel, padding=kernel // 2)
    for number in (1, 64):
        assert (ours._plan(images(number, channels, side, side)) is not None) is used


def test_too_small_an_input_raises_pytorchs_error():
    _, ours = pair(padding=0)
    with pytest.raises(RuntimeError, match="Kernel size can't be"):
        ours(images(80, 64, 4, 4))


@pytest.mark.parametrize("fixed", ["input", "weight", "bias"])
def test_gradients_that_are_not_needed_are_not_computed(fixed):
    plain, ours = pair()
    results = []
    for layer in (plain, ours):
        x = images(8, 64, 20, 20).requires_grad_(fixed != "input")
        for name, parameter in layer.named_parameters():
            parameter.requires_grad_(name != fixed)
        layer(x).square().sum().backward()
        results.append([x.grad, layer.weight.grad, layer.bias.grad])
    for theirs, mine in zip(*results, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert error(mine, theirs) < 1e-4


@pytest.mark.parametrize("layout", ["expanded", torch.contiguous_format, torch.channels_last])
def test_any_memory_format_of_the_outer_gradient(layout):
    plain, ours = pair()
    x = images(8, 64, 20, 20)
    outer = torch.ones(()).expand(8, 96, 20, 20)
    if layout != "expanded":
        outer = torch.randn(8, 96, 20, 20).contiguous(memory_format=layout)
    results = [torch.autograd.grad(layer(x), layer.weight, outer) for layer in (ours, plain)]
    assert error(*(grad for (grad,) in results)) < 1e-3  # ones cancel


def test_trains_after_inference_mode():
    _, ours = pair()
    convolution._transforms.cache_clear()
    with torch.inference_mode():
        ours(images(8, 64, 20, 20))
    ours(images(8, 64, 20, 20)).square().sum().backward()
    assert ours.weight.grad is not None


def test_second_derivative_is_refused():
    _, ours = pair()
    x = images(8, 64, 20, 20).requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(ours(x).sum(), x, create_graph=True)


def test_output_is_channels_last_and_only_filters_and_tiles_are_saved():
    _, ours = pair()
    x = images(8, 64, 20, 20).requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = ours(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    kept = {t.data_ptr(): t.numel() for t in saved}
    assert sum(kept.values()) == 11 * 11 * (64 * 96 + 8 * 9 * 64)  # filters, 9 tiles of 7 x 7
    saved.clear()
    ours.weight.requires_grad_(False)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        ours(x)
    assert sum(t.numel() for t in saved) == 11 * 11 * 64 * 96


def test_a_single_image_is_computed_as_in_a_batch():
    _, ours = pair()
    x = images(8, 64, 20, 20)
    assert ours._plan(x) == ours._plan(x[:1])
    assert error(ours(x[:1]), ours(x)[:1]) < 5e-5  # products of other sizes round differently


def test_repeated_runs_give_equal_results():
    _, ours = pair()
    x = images(8, 64, 20, 20)
    for one, other in zip(gradients(ours, x), gradients(ours, x), strict=True):
        assert torch.equal(one, other)
