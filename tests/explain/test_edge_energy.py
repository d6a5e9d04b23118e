import numpy as np
import pytest
import torch

from stagetransfer.explain import edge_energy, edges


def step(side=64, column=32):
    """An image with one upright edge."""
    image = torch.zeros(1, 3, side, side, dtype=torch.float64)
    image[..., column:] = 1
    return image


def noise(side=64):
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_edges_are_at_the_step():
    found = edges(step())[0]
    columns = found.any(0).nonzero().ravel()
    assert found.all(0)[columns].all()  # over the whole length of the step
    assert columns.tolist() == list(range(columns.min(), 64 - columns.min()))  # symmetric
    assert (
        28 >= columns.min() >= 25
    )  # as far as both Gaussians reach, which is less than a fifth of the area


def test_strong_texture_without_direction_is_not_an_edge(monkeypatch):
    image = step(column=16)
    image[..., 32:] += 4 * noise()[..., 32:].double().mean(1, keepdim=True)
    monkeypatch.setitem(edges.__globals__, "STRONGEST", 0.4)
    found = edges(image)[0].double()
    monkeypatch.setitem(edges.__globals__, "COHERENCE", 0.0)
    loose = edges(image)[0].double()
    assert found[:, 15:17].all()
    # The gradient of the texture is strong as well, but has no single direction.
    assert loose[:, 40:].mean() > 0.25
    assert found[:, 40:].mean() < 0.1


def test_against_the_eigenvalues_of_the_tensor():
    image = noise(24).double()
    grey = image[0].mean(0).numpy()
    mirrored = np.pad(grey, 24, mode="symmetric")
    x = np.arange(-12, 13)

    def along(a, kernel, axis):
        return np.apply_along_axis(np.convolve, axis, a, kernel, mode="same")

    def gauss(sigma):
        kernel = np.exp(-(x**2) / (2 * sigma**2)) * (abs(x) <= int(4 * sigma + 0.5))
        return kernel / kernel.sum()

    slope = -x / 1.0**2 * gauss(1.0)
    inside = (slice(24, 48),) * 2
    dy = along(along(mirrored, slope, 0), gauss(1.0), 1)[inside]
    dx = along(along(mirrored, slope, 1), gauss(1.0), 0)[inside]
    products = np.stack([dy * dy, dy * dx, dy * dx, dx * dx])
    products = np.pad(products, ((0, 0), (24, 24), (24, 24)), mode="symmetric")
    smooth = along(along(products, gauss(2.0), 1), gauss(2.0), 2)[:, *inside]
    low, high = np.linalg.eigvalsh(np.moveaxis(smooth, 0, -1).reshape(24, 24, 2, 2)).transpose(
        2, 0, 1
    )
    expected = (high >= np.quantile(high, 0.8)) & ((high - low) / (high + low) > 0.5)
    assert np.array_equal(edges(image)[0].numpy(), expected)
    assert expected.any()


@pytest.mark.parametrize(("factor", "shift"), [(-3.0, 0.0), (0.01, 0.5), (7.0, -2.0)])
def test_brightness_and_contrast_do_not_matter(factor, shift):
    images = torch.cat([step(), noise().double()])
    assert torch.equal(edges(images), edges(factor * images + shift))


def test_each_image_has_its_own_edges():
    images = torch.cat([100 * step(), noise().double()])
    assert torch.equal(edges(images)[1], edges(images[1:])[0])
    assert edges(images)[1].any()


def test_a_flat_image_has_no_edges():
    flat = torch.full((2, 3, 32, 32), 0.3)
    assert not edges(flat).any()
    assert not edges(torch.zeros_like(flat)).any()
    assert not edges(-flat + 1e-9 * step(32, 16)).any()  # below rounding


def test_energy_share():
    images = torch.cat([step(), step(column=20)])
    on = edges(images)
    maps = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = [
        float((maps[i].double() ** 2).sum(0)[on[i]].sum() / (maps[i].double() ** 2).sum())
        for i in range(2)
    ]
    assert edge_energy(maps, images).tolist() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(edge_energy(on[:, None].float(), images), torch.ones(2).double())
    assert not edge_energy((~on)[:, None].bfloat16(), images).any()
    assert edge_energy(torch.zeros_like(maps), images).isnan().all()


def test_an_even_map_has_the_share_of_the_area():
    images = torch.cat([step(), noise().double()])
    area = edges(images).double().mean((1, 2))
    assert torch.allclose(edge_energy(torch.full_like(images, -2.0), images), area)
    assert area[1] <= 0.2
    assert (area > 0.02).all()


def test_maps_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        edge_energy(torch.zeros(1, 3, 32, 32), step())
