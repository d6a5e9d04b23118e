import copy

import pytest
import torch
from torch import nn

from stagetransfer.models import BlockedLinear


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def pair(inputs=1024, outputs=2048, **options):
    torch.manual_seed(0)
    plain, ours = nn.Linear(inputs, outputs, **options), BlockedLinear(inputs, outputs, **options)
    ours.load_state_dict(plain.state_dict())
    return plain, ours


def rows(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def gradients(layer, x):
    leaf = x.detach().clone().requires_grad_()
    y = layer(leaf)
    outer = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    return [y.detach(), *torch.autograd.grad(y, [leaf, *layer.parameters()], outer)]


@pytest.mark.parametrize("number", [0, 1, 2, 7, 64])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_pytorch(number, bias):
    plain, ours = pair(bias=bias)
    x = rows(number, 1024)
    assert ours._num_blocks(x) == 4
    exact = gradients(copy.deepcopy(plain).double(), x.double())
    for mine, right in zip(gradients(ours, x), exact, strict=True):
        assert float((mine - right).norm()) <= 1e-6 * float(right.norm())


@pytest.mark.parametrize(("threads", "blocks"), [(1, 1), (2, 4), (3, 4), (4, 8), (6, 8), (16, 32)])
def test_blocks_are_the_power_of_two_above_the_threads(threads, blocks):
    torch.set_num_threads(threads)
    assert BlockedLinear(1024, 2048)._num_blocks(rows(2, 1024)) == blocks


@pytest.mark.parametrize(
    ("inputs", "outputs", "x"),
    [
        (1022, 2048, rows(3, 1022)),
        (1024, 2046, rows(3, 1024)),
        (64, 64, rows(3, 64)),
        (1024, 2048, rows(2, 3, 1024)),
        (1024, 2048, rows(1024)),
        (1024, 2048, rows(3, 1024).double()),
    ],
)
def test_other_cases_use_pytorchs_product(inputs, outputs, x):
    plain, ours = pair(inputs, outputs)
    assert torch.equal(ours.to(x.dtype)(x), plain.to(x.dtype)(x))


def test_autocast_uses_pytorchs_product():
    plain, ours = pair()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(rows(3, 1024)), plain(rows(3, 1024)))


@pytest.mark.parametrize("fixed", ["input", "weight", "bias"])
def test_gradients_that_are_not_needed_are_not_computed(fixed):
    _, ours = pair()
    x = rows(3, 1024).requires_grad_(fixed != "input")
    for name, parameter in ours.named_parameters():
        parameter.requires_grad_(name != fixed)
    ours(x).sum().backward()
    grads = {"input": x.grad, "weight": ours.weight.grad, "bias": ours.bias.grad}
    assert {name for name, grad in grads.items() if grad is None} == {fixed}


def test_second_derivative_equals_pytorchs():
    plain, ours = pair()
    results = []
    for layer in (plain, ours):
        x = rows(3, 1024).requires_grad_()
        (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-3)
