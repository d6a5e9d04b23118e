"""Windows, label maps and shares, compared with simple loops."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stagetransfer.ct.roi_patches import PatchSettings
from stagetransfer.errors import UserError
from stagetransfer.inference.label_map import (
    COLUMNS,
    check_class_names,
    label_maps,
    label_shares,
    nearest_window,
    patient_shares,
)
from stagetransfer.inference.slice_prediction import prepare_slice
from stagetransfer.inference.sliding_windows import place_windows


def blob(shape, seed):
    random = np.random.default_rng(seed)
    y, x = np.indices(shape)
    a, b = random.uniform(0.3, 0.7, 2) * shape
    return (y - a) ** 2 + (x - b) ** 2 < (random.uniform(0.15, 0.5) * min(shape)) ** 2


@given(
    height=st.integers(10, 50),
    width=st.integers(10, 50),
    size=st.integers(3, 12),
    stride=st.integers(1, 9),
    coverage=st.sampled_from([0.0, 0.5, 0.75, 1.0]),
    seed=st.integers(0, 20),
)
def test_windows_are_those_of_a_simple_search(height, width, size, stride, coverage, seed):
    lung = blob((height, width), seed)
    found = place_windows(lung, size, stride, coverage)
    margin = [(n - size) % stride // 2 for n in lung.shape]
    expected = [
        (top, left)
        for top in range(margin[0], height - size + 1, stride)
        for left in range(margin[1], width - size + 1, stride)
        if lung[top + size // 2, left + size // 2]
        and lung[top : top + size, left : left + size].mean() >= coverage
    ]
    assert list(zip(found.tops, found.lefts, strict=True)) == expected


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_hold_the_pixels_of_each_window(batch):
    plane = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    windows = place_windows(np.ones((40, 50), bool), 8, 5)
    parts = list(windows.batches(torch.from_numpy(plane), batch))
    assert max(map(len, parts)) <= batch
    pixels = torch.cat(parts)[:, 0].numpy()
    assert len(pixels) == len(windows) > 20
    for one, top, left in zip(pixels, windows.tops, windows.lefts, strict=True):
        np.testing.assert_array_equal(one, plane[top : top + 8, left : left + 8])


def test_centres_of_even_and_odd_windows():
    lung = np.ones((9, 9), bool)
    assert place_windows(lung, 4, 9).centres.tolist() == [[3.5, 3.5]]
    assert place_windows(lung, 5, 9).centres.tolist() == [[4, 4]]


def test_a_slice_smaller_than_a_window_has_no_windows():
    assert len(place_windows(np.ones((5, 40), bool), 8, 2)) == 0


@given(seed=st.integers(0, 30), spacing=st.sampled_from([None, (1.0, 1.0), (0.5, 1.25)]))
def test_each_pixel_has_the_window_with_the_nearest_centre(seed, spacing):
    random = np.random.default_rng(seed)
    lung = blob((30, 26), seed)
    centres = random.uniform(0, 26, (random.integers(1, 20), 2))
    found = nearest_window(lung, centres, (9, 7), spacing)
    assert (found[~lung] == -1).all()
    row, column = spacing or (1, 1)
    for y, x in np.argwhere(lung):
        distance = np.hypot((centres[:, 1] - y) * row, (centres[:, 0] - x) * column)
        nearest = centres[distance.argmin()]
        if abs(nearest[1] - y) > 4.501 or abs(nearest[0] - x) > 3.501:
            assert found[y, x] == -1
        else:
            assert distance[found[y, x]] == pytest.approx(distance.min(), abs=1e-9)


@given(seed=st.integers(0, 30), size=st.integers(1, 9), stride=st.integers(1, 9))
def test_label_maps_are_those_of_a_loop(seed, size, stride):
    random = np.random.default_rng(seed)
    windows = place_windows(blob((30, 26), seed), size, stride)
    p = random.dirichlet([0.5] * 3, len(windows))
    familiar = random.random(len(windows)) < 0.6
    marked, plain = label_maps(windows, p, familiar, (30, 26), 0.5)
    for y, x in np.ndindex(30, 26):
        rows, columns = y - windows.tops, x - windows.lefts
        inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
        if not inside.any():
            assert marked[y, x] == plain[y, x] == 5
            continue
        known = inside & familiar
        mean = p[known if known.any() else inside].mean(0)
        assert mean[plain[y, x]] == pytest.approx(mean.max(), abs=1e-9)
        if known.sum() < inside.sum() / 4:
            assert marked[y, x] == 4
        elif abs(mean.max() - 0.5) > 1e-9:
            assert marked[y, x] == (3 if mean.max() < 0.5 else plain[y, x])


@given(seed=st.integers(0, 30))
def test_shares_are_those_of_a_loop(seed):
    labels = np.random.default_rng(seed).integers(-1, 5, (30, 26)).astype(np.int16)
    found = label_shares(labels, "abcdn")
    counted = [int((labels == code).sum()) for code in range(5)]
    for name, count in zip("abcdn", counted, strict=True):
        assert found[name] == pytest.approx(count / sum(counted if name == "n" else counted[:4]))


@pytest.mark.parametrize("name", ["uncertain", "not read", "slice"])
def test_a_class_with_the_name_of_another_column_is_refused(name):
    with pytest.raises(UserError, match=f"class '{name}': .*Rename the class"):
        check_class_names(("a", name), COLUMNS)
    check_class_names(("a", "slice"))  # patches have no such column


def test_without_windows_nothing_is_read():
    windows = place_windows(np.zeros((4, 4), bool), 2, 1)
    marked, plain = label_maps(windows, np.zeros((0, 2)), np.zeros(0, bool), (4, 4), 0.5)
    assert (marked == 4).all()
    assert (plain == 4).all()
    assert [*label_shares(marked, "abcdn").values()] == pytest.approx(
        [np.nan] * 4 + [1], nan_ok=True
    )


def test_lung_that_no_window_reaches_is_not_read():
    """One window in a corner of a large lung: its own pixels are read, and no others."""
    windows = nearest_window(np.ones((60, 80), bool), np.array([[9.5, 7.5]]), (16, 20))
    expected = np.full((60, 80), -1)
    expected[:16, :20] = 0
    np.testing.assert_array_equal(windows, expected)


def slices(*rows):
    columns = ["patient", "windows", "lung_pixels", "lung_mm2", "a", "b", "not read"]
    return pd.DataFrame(rows, columns=columns)


def test_shares_of_a_patient_are_weighted_by_the_area_that_was_read():
    table = slices(
        ("x", 5, 1000, 100.0, 1.0, 0.0, 0.0),
        ("x", 5, 100, 400.0, 0.0, 1.0, 0.5),
        ("x", 0, 100, 500.0, np.nan, np.nan, 1.0),  # no windows
        ("x", 0, 0, 0.0, np.nan, np.nan, np.nan),  # no lung
        ("y", 5, 10, np.nan, 1.0, 0.0, 0.0),  # no spacing: pixels
        ("y", 5, 30, 7.0, 0.0, 1.0, 0.0),
    )
    x, y = patient_shares(table, ("a", "b", "not read")).to_dict("records")
    assert (x["patient"], x["slices"], x["windows"], x["lung_mm2"]) == ("x", 4, 10, 1000)
    assert [x["a"], x["b"], x["not read"]] == pytest.approx([100 / 300, 200 / 300, 0.7])
    assert [y["a"], y["b"], y["not read"]] == pytest.approx([0.25, 0.75, 0])
    assert np.isnan(y["lung_mm2"])


def test_centres_of_resampled_windows_are_in_slice_pixels():
    """The windows whose centres lie on a bright square of the slice are bright."""
    hu = np.full((120, 100), -1000.0)
    hu[40:80, 30:70] = 0
    prepared = prepare_slice(
        hu, np.ones(hu.shape, bool), (0.5, 0.5), PatchSettings(size=4, spacing=1.0), 1
    )
    assert prepared.grey.shape == (60, 50)
    centres = prepared.raster.to_slice(prepared.windows.centres)
    pixels = torch.cat(list(prepared.batches(64, torch.device("cpu"))))[:, 0].float()
    bright = pixels.mean((1, 2)).numpy() > 200
    x, y = centres.T
    inside = (x > 36) & (x < 63) & (y > 46) & (y < 73)
    assert inside.any()
    assert bright[inside].all()
    outside = (x < 24) | (x > 75) | (y < 34) | (y > 85)
    assert not bright[outside].any()
