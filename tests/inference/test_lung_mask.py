"""The lungs of drawn slices: what belongs to them, what does not, and when there are none."""

import numpy as np
import pytest

from stagetransfer.inference.lung_mask import find_lungs

SHAPE = (200, 240)
LUNG, GAS, TISSUE = -850, -1000, 40


def disc(x, y, r, ry=None):
    rows, columns = np.indices(SHAPE)
    return ((rows - y) / (ry or r)) ** 2 + ((columns - x) / r) ** 2 < 1


LUNGS = disc(80, 100, 34) | disc(160, 100, 34)
BODY = disc(120, 100, 104, 80)


def chest(lung=LUNGS, *others):
    """A slice of 1 mm pixels; `others` are pairs of a mask and its density."""
    hu = np.full(SHAPE, -1000.0)
    for mask, density in ((BODY, TISSUE), (lung, LUNG), *others):
        hu[mask] = density
    return hu + np.random.default_rng(0).normal(0, 15, SHAPE)


def masks(*slices, spacing=(1.0, 1.0)):
    found = find_lungs(enumerate(slices), spacing)
    return [found.mask(index) for index in range(len(slices))]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_both_lungs_with_their_vessels_and_nothing_else():
    vessels = disc(85, 100, 6) | disc(165, 110, 4)
    (found,) = masks(chest(LUNGS, (vessels, TISSUE), (disc(120, 60, 6), GAS)))
    assert found[vessels].all()
    assert dice(found, LUNGS) > 0.97
    assert not found[disc(120, 60, 8)].any()


def test_a_third_aerated_part_is_lung():
    """Dense disease divides a lung into two."""
    dense = LUNGS & (np.abs(np.indices(SHAPE)[0] - 100) < 8) & (np.indices(SHAPE)[1] > 120)
    (found,) = masks(chest(LUNGS, (dense, TISSUE)))
    assert dice(found, LUNGS & ~dense) > 0.96


@pytest.mark.parametrize("gas", [disc(60, 150, 12), disc(120, 158, 16, 10), disc(180, 150, 20, 14)])
def test_gas_is_not_lung(gas):
    (found,) = masks(chest(LUNGS, (gas, GAS)))
    assert not found[gas].any()
    assert dice(found, LUNGS) > 0.97


def test_emphysema_is_lung():
    """Lung of -940 HU between vessels, which gas does not have."""
    random = np.random.default_rng(1)
    vessels = LUNGS & (random.random(SHAPE) < 0.015)
    thick = (
        vessels | np.roll(vessels, 1, 0) | np.roll(vessels, 1, 1) | np.roll(vessels, (1, 1), (0, 1))
    )
    (found,) = masks(chest(LUNGS, (LUNGS, -940), (LUNGS & thick, -300)))
    assert dice(found, LUNGS) > 0.96


def test_the_gap_between_body_and_table_is_not_lung():
    """A curved table encloses air below the back; the foam in it is as dense as lung."""
    rows, columns = np.indices(SHAPE)
    shell = (np.abs(rows - 190) < 2) & (np.abs(columns - 120) < 80)
    shell |= (np.abs(np.abs(columns - 120) - 80) < 2) & (rows > 140) & (rows < 190)
    foam = (rows > 176) & (rows < 188) & (np.abs(columns - 120) < 60) & ~BODY
    (found,) = masks(chest(LUNGS, (shell, 0), (foam & ~shell, LUNG)))
    assert not found[~BODY].any()
    assert dice(found, LUNGS) > 0.97


def test_a_small_part_is_lung_if_it_continues_lung_of_the_next_slice():
    corner, elsewhere = disc(80, 120, 8, 6), disc(120, 155, 9, 7)
    slices = [chest(corner | elsewhere), chest(), chest(), chest()]
    found = masks(*slices)
    assert dice(found[0], corner) > 0.9
    assert not found[0][elsewhere].any()
    assert all(dice(one, LUNGS) > 0.97 for one in found[1:])


def test_bowel_below_the_lungs_is_not_lung():
    """Stool of the density of lung, on slices below the last slice of the lungs."""
    stool = disc(170, 120, 20)
    nothing = np.zeros(SHAPE, bool)
    found = masks(chest(stool), chest(stool), chest(stool), chest(nothing), *[chest()] * 4)
    assert not any(one.any() for one in found[:4])
    assert all(dice(one, LUNGS) > 0.97 for one in found[4:])


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0)])
@pytest.mark.parametrize(
    "slice_",
    [
        chest(np.zeros(SHAPE, bool)),
        chest(np.zeros(SHAPE, bool), (disc(150, 70, 30, 20), GAS), (disc(70, 130, 18), GAS)),
        chest(disc(150, 130, 14), (disc(150, 70, 30, 20), GAS)),
        np.full(SHAPE, -1000.0),
        np.full(SHAPE, 40.0),
    ],
    ids=["soft tissue", "gas", "stool", "air", "no air"],
)
def test_without_plausible_lung_nothing_is_found(slice_, spacing):
    assert find_lungs([(0, slice_)] * 3, spacing).parts == {}


def test_slices_keep_their_numbers():
    found = find_lungs([(3, chest()), (7, chest())], (1.0, 1.0))
    assert sorted(found.parts) == [3, 7]
    assert not found.mask(4).any()
