import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stagetransfer.models import LocalResponseNorm
from stagetransfer.models import local_response_norm as lrn


def both(x, *parameters):
    """Output and input gradient of PyTorch's LRN and of ours, for the same outer gradient."""
    results = []
    for kind in (nn.LocalResponseNorm, LocalResponseNorm):
        leaf = x.detach().clone().requires_grad_()
        y = kind(*parameters)(leaf)
        y.backward(torch.linspace(-1, 2, y.numel(), dtype=x.dtype).view(y.shape))
        results.append((y.detach(), leaf.grad))
    return results


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=3, max_size=5),
    channels=st.integers(1, 9),
    size=st.integers(1, 8),
    alpha=st.sampled_from([1e-4, 0.3, 5.0]),
    beta=st.sampled_from([0.75, 0.5, 1.0, 1.3]),
    k=st.sampled_from([1.0, 2.0]),
    seed=st.integers(0, 99),
)
def test_equals_pytorch(shape, channels, size, alpha, beta, k, seed):
    shape[1] = channels
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    (expected, expected_grad), (y, grad) = both(3 * x, size, alpha, beta, k)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 100, 200])
def test_a_batch_in_chunks_equals_the_whole(monkeypatch, chunk):
    monkeypatch.setattr(lrn, "_CHUNK", chunk)
    x = torch.randn(5, 7, 3, 4, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    (expected, expected_grad), (y, grad) = both(x, 5, 0.3, 0.75, 1.0)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("size", "beta"), [(5, 0.75), (4, 0.75), (3, 1.2)])
def test_gradient_agrees_with_finite_differences(size, beta):
    x = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LocalResponseNorm(size, 0.5, beta), (x,))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((2, 6, 5, 4), torch.channels_last), ((2, 6, 3, 5, 4), torch.channels_last_3d)],
)
def test_keeps_channels_last(shape, layout):
    x = torch.randn(shape).to(memory_format=layout).requires_grad_()
    y = LocalResponseNorm(5, 0.5)(x)
    assert y.is_contiguous(memory_format=layout)
    y.sum().backward()
    assert x.grad.is_contiguous(memory_format=layout)
    torch.testing.assert_close(y, nn.LocalResponseNorm(5, 0.5)(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    x = (300 * torch.randn(2, 9, 4, 4)).to(dtype).requires_grad_()  # its square overflows float16
    y = LocalResponseNorm(5, 1e-2)(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert y.dtype == grad.dtype == dtype
    wide = x.detach().float().requires_grad_()
    expected = nn.LocalResponseNorm(5, 1e-2)(wide)
    (expected_grad,) = torch.autograd.grad(expected.sum(), wide)
    torch.testing.assert_close(y, expected.to(dtype), rtol=1e-2, atol=0)
    torch.testing.assert_close(grad, expected_grad.to(dtype), rtol=2e-2, atol=1e-4)


def test_input_is_unchanged_and_an_empty_batch_is_accepted():
    x = torch.randn(1, 5, 2, 2)
    kept = x.clone()
    LocalResponseNorm(5)(x)
    assert torch.equal(x, kept)
    assert LocalResponseNorm(5)(torch.empty(0, 5, 2, 2)).shape == (0, 5, 2, 2)


def test_second_derivative_is_refused():
    x = torch.randn(1, 5, 2, requires_grad=True)
    for outer in (torch.sum, lambda y: y.square().sum()):
        with pytest.raises(RuntimeError, match="no second derivative"):
            torch.autograd.grad(outer(LocalResponseNorm(5)(x)), x, create_graph=True)
