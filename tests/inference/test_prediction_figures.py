"""The figure of a slice: colours without colour vision, sides, scale, window, position."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from stagetransfer.ct import PatchSettings, Volume
from stagetransfer.ct.volume import Geometry
from stagetransfer.inference.prediction_figures import (
    NOT_READ_COLOUR,
    label_colours,
    overlay,
    slice_caption,
)


def test_the_second_mark_is_striped_and_not_read_is_grey():
    grey = np.full((12, 12), 100, np.uint8)
    colours = label_colours(2)
    assert colours[2:] == [to_rgb("#ffffff"), to_rgb("#400040")]
    assert to_rgb("#808080") == NOT_READ_COLOUR
    image = overlay(grey, np.full((12, 12), 3, np.int16), colours)
    assert (image == 100 / 255).all(axis=2).mean() == pytest.approx(0.5, abs=0.1)
    assert (overlay(grey, np.full((12, 12), 4, np.int16), colours) == 100 / 255).all()


def volume(right, down, instances=(9, 8), spacing=(0.5, 0.5)):
    geometry = Geometry(
        np.array([[0, 0, -20.0], [0, 0, -17.5]]), *map(np.array, (right, down)), 2.5
    )
    return Volume("v", "", "", frozenset(), ("a", "b"), (8, 8), spacing, geometry, None, instances)


@pytest.mark.parametrize(
    ("right", "down", "sides"),
    [((1, 0, 0), (0, 1, 0), "RLAP"), ((-1, 0, 0), (0, 1, 0), "LRAP"),
     ((1, 0, 0), (0, 0, -1), "RLHF"), ((0, 1, 0), (0, 0, -1), "APHF")],
)  # fmt: skip
def test_sides_of_the_patient(right, down, sides):
    assert slice_caption(volume(right, down), 1, PatchSettings(), 36)[1] == sides


def test_the_caption_names_what_the_archive_counts_and_the_scale():
    axial = volume((1, 0, 0), (0, 1, 0))
    caption, _ = slice_caption(axial, 1, PatchSettings(level=-500, width=1400), 36)
    for part in ("InstanceNumber 8", "slice 1", "position -17.5 mm", "-500/1400 HU", "18.0 mm"):
        assert part in caption
    unknown = Volume("v", "", "", frozenset(), ("a",), (8, 8), None, None, None)
    caption, sides = slice_caption(unknown, 0, PatchSettings(), 32)
    assert sides == ""
    assert "left and right unknown" in caption
    assert "mm" not in caption
