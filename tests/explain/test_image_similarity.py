import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from stagetransfer.explain import ssim
from stagetransfer.explain.similarity import centred_ranks


def random_images(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rank_correlation(a, b):
    return (centred_ranks(a) * centred_ranks(b)).sum(1)


def test_rank_correlation_is_spearmans_for_each_image():
    a, b = random_images(3, 2, 9, 8), random_images(3, 2, 9, 8, seed=1)
    b = (b + a.abs()).clamp(min=0)  # many ties at zero
    result = rank_correlation(a, b)
    for i in range(3):
        x, y = a[i].flatten(), b[i].flatten()
        expected = spearmanr(x.abs(), y).statistic
        assert result[i].item() == pytest.approx(expected, abs=1e-12)


def test_rank_correlation_ignores_the_sign_and_is_undefined_for_a_constant_image():
    a = random_images(2, 3, 6, 6)
    assert torch.allclose(rank_correlation(a, -2 * a), torch.ones(2).double())
    assert rank_correlation(a, torch.ones_like(a)).isnan().all()


def plain_ssim(a, b):
    """Wang et al. 2004 for one channel that is scaled to [0, 1]."""

    def mean(x):
        return gaussian_filter(x, 1.5, truncate=5 / 1.5, mode="mirror")

    x, y = ((image - image.min()) / (image.max() - image.min()) for image in (a, b))
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()


def test_ssim_against_its_formula():
    a, b = random_images(3, 2, 24, 20), random_images(3, 2, 24, 20, seed=1)
    b = a + 0.5 * b
    result = ssim(a[:, :1], b[:, :1])
    for i in range(3):
        assert result[i].item() == pytest.approx(
            plain_ssim(a[i, 0].numpy(), b[i, 0].numpy()), abs=1e-5
        )


def test_ssim_ignores_brightness_and_contrast_but_not_the_sign():
    a, b = random_images(2, 3, 16, 16), random_images(2, 3, 16, 16, seed=1)
    assert torch.allclose(ssim(a, a), torch.ones(2).double(), atol=1e-6)
    assert torch.allclose(ssim(a, b), ssim(5 * a - 2, 0.1 * b + 3), atol=1e-5)
    assert (ssim(a, -a) < 0.2).all()
    assert ssim(a.bfloat16(), torch.ones_like(a)).isfinite().all()
