"""Colour scales of saliency maps and network inputs."""

import numpy as np
import pytest
import torch

from stagetransfer.explain import input_to_rgb, saliency_to_rgb


def test_official_scale_is_the_published_sigmoid():
    saliency = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    scaled = saliency_to_rgb(saliency)
    for one, image in zip(saliency.double().numpy(), scaled, strict=True):
        a = np.quantile(one, 0.005)
        expected = 1 / (1 + np.exp(one / a * np.log(99)))
        np.testing.assert_allclose(image, expected.transpose(1, 2, 0), atol=1e-12)


def test_official_scale_maps_zero_the_quantile_and_its_negative():
    saliency = torch.zeros(1, 3, 10, 10)
    saliency[0, 0, 0] = -2.0
    saliency[0, 1, 0] = 2.0
    image = saliency_to_rgb(saliency)[0]
    assert image[5, 5].tolist() == [0.5, 0.5, 0.5]
    np.testing.assert_allclose(image[0, 0], [0.01, 0.99, 0.5], atol=1e-7)


def test_official_scale_without_a_negative_keeps_the_order():
    saliency = torch.zeros(1, 3, 10, 10)
    saliency[0, :, 0] = 3.0
    image = saliency_to_rgb(saliency)[0]
    assert image[0, 0, 0] == pytest.approx(0.99)
    assert image[5, 5, 0] == 0.5


@pytest.mark.parametrize("scale", ["official", "perceptual"])
def test_a_map_of_zeros_has_one_colour(scale):
    image = saliency_to_rgb(torch.zeros(1, 3, 8, 8), scale)
    assert image.shape == (1, 8, 8, 3)
    assert np.isfinite(image).all()
    assert np.ptp(image, axis=(1, 2)).max() == 0


def test_perceptual_scale_rises_with_strength_and_ignores_the_sign():
    saliency = torch.zeros(1, 3, 1, 5)
    saliency[0, 0, 0] = torch.tensor([0.0, 1.0, -1.0, 2.0, 4.0])
    light = saliency_to_rgb(saliency, "perceptual")[0, 0] @ [0.2126, 0.7152, 0.0722]
    assert light[1] == light[2]
    assert light[0] < light[1] < light[3] < light[4]


def test_each_map_has_its_own_scale():
    saliency = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    alone, together = (
        saliency_to_rgb(saliency),
        saliency_to_rgb(torch.cat([saliency, 1000 * saliency])),
    )
    np.testing.assert_allclose(together[1], alone[0], atol=1e-6)


def test_input_to_rgb_undoes_the_normalisation():
    rgb = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2]).view(1, 1, 1)
    np.testing.assert_allclose(
        input_to_rgb((rgb - mean) / std, mean, std), rgb.permute(0, 2, 3, 1).numpy(), atol=1e-6
    )
