"""The colours of curves and of label maps, as people without one kind of cone see them."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from stagetransfer.figures import COLOURS, LINES, MARKERS
from stagetransfer.inference.prediction_figures import blend, label_colours
from stagetransfer.pages.plots import line_styles

# Machado, Oliveira and Fernandes 2009, table 1, severity 1, on linear RGB
VISION = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
TO_XYZ = [
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
]


def lab(colour, vision):
    """CIELAB of an sRGB colour, D65."""
    value = np.asarray(colour, float)
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    x = np.array(TO_XYZ) @ np.clip(np.array(VISION[vision]) @ linear, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def ciede2000(first, second):
    (l1, a1, b1), (l2, a2, b2) = first, second
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    more = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25**7))
    c1, c2 = np.hypot(a1 * more, b1), np.hypot(a2 * more, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a * more)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    light, c, h = (l1 + l2) / 2, (c1 + c2) / 2, np.radians(h1 + turn / 2)
    weight = (
        1 - 0.17 * np.cos(h - np.radians(30)) + 0.24 * np.cos(2 * h)
        + 0.32 * np.cos(3 * h + np.radians(6)) - 0.2 * np.cos(4 * h - np.radians(63))
    )  # fmt: skip
    dl = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    dc = (c2 - c1) / (1 + 0.045 * c)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * c * weight)
    bend = np.radians(30 * np.exp(-((((np.degrees(h) % 360) - 275) / 25) ** 2)))
    twist = -2 * np.sqrt(c**7 / (c**7 + 25**7)) * np.sin(2 * bend)
    return np.sqrt(dl**2 + dc**2 + dh**2 + twist * dc * dh)


@pytest.mark.parametrize(  # Sharma, Wu and Dalal 2005, Table 1
    ("first", "second", "difference"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_measure_itself(first, second, difference):
    assert ciede2000(first, second) == pytest.approx(difference, abs=1e-4)


def least_difference(colours, vision):
    pairs = combinations([lab(colour, vision) for colour in colours], 2)
    return min(ciede2000(*pair) for pair in pairs)


@pytest.mark.parametrize("vision", ["usual", "deuteranopia"])
def test_colours_of_curves_can_be_told_apart(vision):
    assert least_difference([to_rgb(colour) for colour in COLOURS], vision) >= 12


@pytest.mark.parametrize("vision", VISION)
def test_colours_of_label_maps_can_be_told_apart(vision):
    for grey in (0.1, 0.24, 0.33, 0.43, 0.5, 0.8):  # of the slice below
        shown = [blend(np.array(colour), grey) for colour in label_colours(7)]
        least = 8 if vision == "tritanopia" else 12
        assert least_difference(shown, vision) >= least
        assert least_difference([shown[-1], [grey] * 3], vision) >= 8  # the stripes


def test_markers_and_lines_repeat_the_distinction():
    styles = line_styles(map(str, range(len(COLOURS) * 2))).values()
    without_colour = {(style["marker"], str(style["linestyle"])) for style in styles}
    assert len(without_colour) == len(COLOURS) * 2
    assert len({*MARKERS}) == len(MARKERS)
    assert len({*map(str, LINES)}) == len(LINES)
