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
    slice_view,
)

# Machado, Oliveira, Fernandes 2009, table 1, severity 1.0; linear RGB
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
          [0.0193339, 0.1191920, 0.9503041]]  # fmt: skip
GREYS = (60, 85, 110)


def cielab(rgb, vision):
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(VISION[vision]), 0, 1)
    xyz = seen @ np.transpose(TO_XYZ) / [0.95047, 1, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * 841 / 108 + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


@pytest.mark.parametrize("vision", VISION)
def test_colours_stay_apart_on_any_grey(vision):
    colours = label_colours(7)
    labels = np.arange(len(colours), dtype=np.int16)[None]
    seen = []
    for grey in GREYS:
        image = overlay(np.full((1, len(colours)), grey, np.uint8), labels[:, ::-1], colours)
        # The last colour, "unlike", is at the column 0, which is in a stripe.
        seen.append(cielab(image[0, ::-1], vision))
    for one in seen:
        for other in seen:
            distances = np.linalg.norm(one[:, None] - other[None], axis=-1)
            assert distances[~np.eye(len(colours), dtype=bool)].min() > 16
        grey = cielab(np.repeat(np.array(GREYS)[:, None] / 255, 3, 1), vision)
        assert np.linalg.norm(one[:, None] - grey[None], axis=-1).min() > 12


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
    view = slice_view(volume(right, down), 1, "t", PatchSettings(), (36, 36))
    assert view.sides == sides


def test_the_caption_names_what_the_archive_counts_and_the_scale():
    axial = volume((1, 0, 0), (0, 1, 0))
    view = slice_view(axial, 1, "t", PatchSettings(level=-500, width=1400), (36, 36))
    for part in ("InstanceNumber 8", "slice 1", "position -17.5 mm", "-500/1400 HU", "18.0 mm"):
        assert part in view.caption
    unknown = Volume("v", "", "", frozenset(), ("a",), (8, 8), None, None, None)
    view = slice_view(unknown, 0, "t", PatchSettings(), (32, 32))
    assert view.sides == ""
    assert "left and right unknown" in view.caption
    assert "mm" not in view.caption
