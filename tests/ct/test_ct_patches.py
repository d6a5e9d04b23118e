"""The positions of patches, and resampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagetransfer.ct.annotations import CroppedMask, Point, Polygon, Region
from stagetransfer.ct.roi_patches import PatchSettings, Raster, patch_corners
from stagetransfer.ct.volume import missing_slices


def region(shape):
    return Region(0, "NOR", shape, "here")


def masked(mask):
    return region(CroppedMask(0, 0, np.asarray(mask, dtype=bool)))


@given(
    st.integers(1, 40),
    st.floats(0, 1),
    st.floats(0, 0.9),
    st.sampled_from(["grid", "centre"]),
    st.integers(0, 2**32 - 1),
)
def test_patches_lie_in_the_slice_and_are_covered(size, coverage, overlap, place, seed):
    random = np.random.default_rng(seed)
    mask = np.zeros((50, 60), dtype=bool)
    for _ in range(3):
        y, x, h, w = random.integers([0, 0, 1, 1], [50, 60, 40, 40])
        mask[y : y + h, x : x + w] = True
    settings = PatchSettings(size=size, coverage=coverage, overlap=overlap, place=place)
    for top, left in patch_corners(masked(mask), Raster((50, 60)), settings):
        patch = mask[top : top + size, left : left + size]
        assert patch.shape == (size, size)
        assert top >= 0
        assert left >= 0
        assert patch.mean() >= coverage


@pytest.mark.parametrize(
    ("overlap", "columns"), [(0, [2, 12, 22]), (0.5, [2, 7, 12, 17, 22]), (0.25, [4, 12, 20])]
)
def test_a_grid_has_equal_margins(overlap, columns):
    mask = np.zeros((20, 40), dtype=bool)
    mask[5:15, 1:33] = True  # 32 pixels wide: three patches of 10 pixels, and 2 pixels of margin
    found = patch_corners(masked(mask), Raster((20, 40)), PatchSettings(size=10, overlap=overlap))
    assert found == [(5, x) for x in columns]


def test_a_region_at_the_border_keeps_its_patch_within_the_slice():
    mask = np.zeros((20, 40), dtype=bool)
    mask[0:9, 32:40] = True
    found = patch_corners(masked(mask), Raster((20, 40)), PatchSettings(size=10, coverage=0.7))
    assert found == [(0, 30)]


def test_a_centred_patch_for_each_part():
    mask = np.zeros((40, 60), dtype=bool)
    mask[4:24, 4:24] = True
    mask[26:32, 40:46] = True
    raster = Raster((40, 60))
    found = patch_corners(masked(mask), raster, PatchSettings(size=10, place="centre"))
    assert found == [(9, 9)]  # the small part does not cover enough of a patch
    found = patch_corners(
        masked(mask), raster, PatchSettings(size=10, place="centre", coverage=0.36)
    )
    assert found == [(9, 9), (24, 38)]


def test_a_hollow_part_is_centred_where_it_is_covered():
    mask = np.ones((50, 50), dtype=bool)
    mask[12:38, 12:38] = False  # the centre of the ring is empty
    [(top, left)] = patch_corners(masked(mask), Raster((50, 50)), PatchSettings(10, place="centre"))
    assert mask[top : top + 10, left : left + 10].all()


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (16, 16, [(0, 0)]),
        (15.9, 16, [(0, 0)]),
        (15, 16, None),
        (48, 34, [(18, 32)]),
        (49, 34, None),
        (40, 35, None),
    ],
)
def test_a_point_is_the_centre_of_a_patch_in_the_slice(x, y, expected):
    assert patch_corners(region(Point(x, y)), Raster((50, 64)), PatchSettings()) == expected


@pytest.mark.parametrize("spacing", [(0.7, 0.7), (0.61, 0.83), (1.1, 0.5)])
@pytest.mark.parametrize("target", [0.4, 0.7, 1.3])
def test_resampling_keeps_places(spacing, target):
    """A ramp in mm is the same after resampling, and so are the edges of a box."""
    raster = Raster.with_spacing((120, 100), spacing, target)
    y, x = np.mgrid[:120, :100].astype(float)
    ramp = 3 * (x + 0.5) * spacing[1] + 5 * (y + 0.5) * spacing[0]
    found = raster.resample(ramp)
    y, x = np.mgrid[: raster.size[0], : raster.size[1]].astype(float)
    expected = (3 * (x + 0.5) + 5 * (y + 0.5)) * target
    inner = np.s_[8:-8, 8:-8]
    np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-9)
    extent = np.array(raster.size) * target
    assert (extent <= np.array([120, 100]) * spacing + 0.01).all()
    assert (extent > np.array([120, 100]) * spacing - target).all()
    box = np.array([[19.5, 29.5], [69.5, 29.5], [69.5, 89.5], [19.5, 89.5]])
    area = raster.draw(Polygon(box)).sum() * target**2
    assert area == pytest.approx(50 * 60 * spacing[0] * spacing[1], rel=0.04)
    mask = np.zeros((120, 100), dtype=bool)
    mask[30:90, 20:70] = True
    assert (raster.draw(CroppedMask(0, 0, mask)) == raster.draw(Polygon(box))).mean() > 0.99


def encircled(vertices, x, y):
    """Whether the outline crosses row y an odd number of times at or before column x."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        if (y0 < y) != (y1 < y):
            crossings += x0 + (y - y0) * (x1 - x0) / (y1 - y0) < x
    return crossings % 2 == 1


@given(st.integers(3, 7), st.integers(0, 6), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_polygon_holds_the_pixels_whose_centres_it_encircles(corners, first, back, seed):
    vertices = np.random.default_rng(seed).uniform(-3, 25, (corners, 2))
    turned = np.roll(vertices, first, axis=0)[:: -1 if back else 1]
    found = Raster((22, 24)).draw(Polygon(turned))
    expected = [[encircled(vertices, x, y) for x in range(24)] for y in range(22)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("shift", [0, 0.25, 0.5])
def test_a_square_has_its_own_number_of_pixels(first, step, shift):
    square = np.array([[10, 8], [74, 8], [74, 72], [10, 72]]) + shift
    found = Raster((90, 90)).draw(Polygon(np.roll(square, first, axis=0)[::step]))
    assert found.sum() == 64 * 64
    start = int(np.ceil(shift))
    assert found[8 + start : 72 + start, 10 + start : 74 + start].all()


def test_polygons_with_one_border_share_no_pixel_and_leave_none():
    left, right = ([[4, 2], [12, 2], [20, 30], [4, 30]], [[12, 2], [28, 2], [28, 30], [20, 30]])
    halves = [Raster((40, 40)).draw(Polygon(np.array(one, float))) for one in (left, right)]
    assert not (halves[0] & halves[1]).any()
    assert (halves[0] | halves[1])[2:30, 4:28].all()


@given(st.floats(0.3, 1.5), st.floats(0.3, 1.5), st.floats(0.3, 1.5), st.floats(-0.5, 90))
def test_to_slice_inverts_to_raster(row, column, target, x):
    raster = Raster.with_spacing((120, 100), (row, column), target)
    there = np.array([[x, x / 2]])
    np.testing.assert_allclose(raster.to_slice(raster.to_raster(there)), there, atol=1e-9)


def test_slices_are_missing_in_gaps_above_one_and_a_half_times_the_median():
    assert missing_slices(np.array([0, 2.0, 4, 6])) == (2, 0)
    assert missing_slices(np.array([0, 2.0, 4, 8, 10, 16])) == (2, 1 + 2)
    assert missing_slices(np.array([0, 2.0, 4.5, 6.8])) == (pytest.approx(2.3), 0)
    assert missing_slices(np.array([5.0])) == (np.inf, 0)
