"""Corruptions of a stored 8-bit image, each at five severities in units of the image.

Where the Hounsfield units of the grey values are known, intensities are in HU and lengths in
pixels; elsewhere they are shares of the 8-bit range and of the image's side, with amounts as in
MedMNIST-C. All that is random (noise, direction, place) depends on the corruption and the image's
id alone: neither batches nor order matter, and a higher severity is the same draw, but stronger.
"""

from collections.abc import Callable
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, signal

from stagetransfer.data.images import resize
from stagetransfer.seeding import derive

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Rng = np.random.Generator

SEVERITIES = range(6)  # 0: the image as it is


class Scale(NamedTuple):
    """What the values of an image mean."""

    window: tuple[float, float] | None = None  # level and width in HU of 0 to 255; None: unknown
    neighbours: bool = False  # the channels are the slice before, the slice and the one after

    @property
    def corruptions(self) -> "tuple[Corruption, ...]":
        """The corruptions that such images can have; one of them needs three slices."""
        return (*CORRUPTIONS, THICKNESS) if self.neighbours else CORRUPTIONS

    @property
    def intensity(self) -> float:
        """Grey values per HU, or per percent of the 8-bit range."""
        return 255 / self.window[1] if self.window else 2.55

    def length(self, side: int) -> float:
        """Return the pixels per unit of length: 1, or a percent of the image's side."""
        return 1.0 if self.window else side / 100


class Corruption(NamedTuple):
    """One kind of corruption, a function of the image (H, W, C), amount, generator and scale.

    The amounts are those of severities 1 to 5: `ct` where Hounsfield units are known, `other`
    elsewhere, if they differ. The same holds for the units "intensity" and "length".
    """

    name: str
    function: Callable[[Floats, float, Rng, Scale], Floats]
    kind_of_unit: str
    ct: tuple[float, ...]
    other: tuple[float, ...]
    meaning: str
    source: str

    def unit(self, scale: Scale) -> str:
        """Return the unit of the amounts."""
        units = {"intensity": ("HU", "% of the range"), "length": ("pixels", "% of the side")}
        return units.get(self.kind_of_unit, 2 * (self.kind_of_unit,))[scale.window is None]

    def amount(self, severity: int, scale: Scale) -> float:
        """Return the amount of a severity from 1 to 5."""
        return (self.ct if scale.window else self.other or self.ct)[severity - 1]


def corrupt(image: Pixels, kind: Corruption, severity: int, scale: Scale, name: str) -> Pixels:
    """Return a square image (H, W, 1 or 3) corrupted; the image itself at severity 0.

    Its draws depend on `kind` and on `name`, the image's id. If all channels are equal, they stay
    equal.
    """
    if severity == 0:
        return image
    grey = bool((image == image[..., :1]).all())
    x = (image[..., :1] if grey else image).astype(np.float64)
    random = np.random.default_rng(derive(0, kind.name, name))
    x = kind.function(x, kind.amount(severity, scale), random, scale)
    return np.broadcast_to(np.clip(np.rint(x), 0, 255).astype(np.uint8), image.shape)


def _noise(x: Floats, sigma: float, random: Rng, scale: Scale) -> Floats:
    return x + scale.intensity * sigma * _white(x, random, scale)


def _dose(x: Floats, dose: float, random: Rng, scale: Scale) -> Floats:
    """Add what a lower dose leaves beyond the noise of the full dose, 30 HU or 4 % of the range.

    Its variance is inversely proportional to the dose. Its spectrum is f H^2, that of a back
    projection filtered by f H, with H = cos(pi f)^2 (Hann) and f in cycles per pixel.
    """
    f = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, x.shape[:2]), indexing="ij"))[..., None]
    response = np.where(f < 0.5, np.sqrt(f) * np.cos(np.pi * f) ** 2, 0)
    spectrum = np.fft.fft2(_white(x, random, scale), axes=(0, 1)) * response
    noise = np.fft.ifft2(spectrum, axes=(0, 1)).real / np.sqrt((response**2).mean())
    full = scale.intensity * (30 if scale.window else 4)
    return np.asarray(x + full * np.sqrt(100 / dose - 1) * noise)


def _blur(x: Floats, sigma: float, random: Rng, scale: Scale) -> Floats:
    pixels = sigma * scale.length(len(x))
    return np.asarray(ndimage.gaussian_filter(x, (pixels, pixels, 0)))


def _sharpen(x: Floats, weight: float, random: Rng, scale: Scale) -> Floats:
    return x + weight * (x - ndimage.gaussian_filter(x, (1, 1, 0)))


def _offset(x: Floats, amount: float, random: Rng, scale: Scale) -> Floats:
    return x + _sign(random) * amount * scale.intensity


def _gain(x: Floats, percent: float, random: Rng, scale: Scale) -> Floats:
    # About -1000 HU, where nothing is attenuated; or about black.
    zero = 127.5 - scale.intensity * (1000 + scale.window[0]) if scale.window else 0.0
    return zero + (1 + _sign(random) * percent / 100) * (x - zero)


def _window(x: Floats, factor: float, random: Rng, scale: Scale) -> Floats:
    return 127.5 + factor ** _sign(random) * (x - 127.5)


def _spacing(x: Floats, factor: float, random: Rng, scale: Scale) -> Floats:
    images = torch.from_numpy(x.astype(np.uint8)).movedim(2, 0)[None]
    small = resize(images, max(round(len(x) / factor), 1))
    return resize(small, len(x))[0].movedim(0, 2).numpy().astype(np.float64)


def _motion(x: Floats, amount: float, random: Rng, scale: Scale) -> Floats:
    length, angle = amount * scale.length(len(x)), random.uniform(0, np.pi)
    reach = int(np.ceil(length / 2)) + 1
    path = np.linspace(-length / 2, length / 2, 16 * reach)[:, None]
    at = np.arange(-reach, reach + 1)
    down, right = (np.clip(1 - abs(at - path * of(angle)), 0, 1) for of in (np.sin, np.cos))
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    kernel = (down.T @ right / len(path))[..., None]
    return np.asarray(signal.fftconvolve(padded, kernel, mode="valid", axes=(0, 1)))


def _jpeg(x: Floats, quality: float, random: Rng, scale: Scale) -> Floats:
    file, image = BytesIO(), (x if x.shape[2] == 3 else x[..., 0]).astype(np.uint8)
    Image.fromarray(image).save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file), np.float64).reshape(x.shape)


def _contrast(x: Floats, factor: float, random: Rng, scale: Scale) -> Floats:
    return np.asarray(x.mean() + factor * (x - x.mean()))


def _rotate(x: Floats, degrees: float, random: Rng, scale: Scale) -> Floats:
    angle = _sign(random) * degrees
    return np.asarray(ndimage.rotate(x, angle, reshape=False, order=1, mode="reflect"))


def _occlude(x: Floats, percent: float, random: Rng, scale: Scale) -> Floats:
    side = round(len(x) * np.sqrt(percent / 100))
    top, left = (random.random(2) * (len(x) - side + 1)).astype(int)
    x[top : top + side, left : left + side] = 0
    return x


def _thicken(x: Floats, intervals: float, random: Rng, scale: Scale) -> Floats:
    """Return means over slices of this thickness; beyond the outer slices, these are repeated."""
    share = (intervals - 1) / (2 * intervals)  # of either neighbour
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1)), mode="edge")
    return (1 - 2 * share) * x + share * (wide[..., :-2] + wide[..., 2:])


def _white(x: Floats, random: Rng, scale: Scale) -> Floats:
    """Return white noise (H, W, 1), or of each slice its own: neighbours have independent noise."""
    return random.standard_normal(x.shape if scale.neighbours else (*x.shape[:2], 1))


def _sign(random: Rng) -> int:
    return int(random.choice((-1, 1)))


_MEDMNIST = "Di Salvo et al. 2024, MedMNIST-C, arXiv 2406.17536"
_KERNELS = "Zhao et al. 2014, Transl. Oncol. 7:88"
_SCANNERS = "Birnbaum et al. 2007, Radiology 242:109"

CORRUPTIONS = (
    Corruption("quantum noise", _noise, "intensity", (15, 30, 45, 60, 90), (4, 8, 12, 18, 26),
               "standard deviation of white Gaussian noise", _MEDMNIST),
    Corruption("lower dose", _dose, "% of the dose", (75, 50, 25, 15, 10), (),
               "correlated noise of a filtered back projection",
               "Kijewski, Judy 1987, Phys. Med. Biol. 32:565"),
    Corruption("kernel blur", _blur, "length", (0.5, 0.75, 1, 1.5, 2), (1.5, 2, 2.5, 3, 4),
               "standard deviation of a Gaussian", _KERNELS),
    Corruption("sharpening", _sharpen, "x", (0.5, 1, 1.5, 2, 3), (),
               "weight of an unsharp mask of 1 pixel", _KERNELS),
    Corruption("offset", _offset, "intensity", (10, 20, 40, 60, 100), (4, 8, 12, 16, 20),
               "added or subtracted", _SCANNERS),
    Corruption("gain", _gain, "%", (2, 4, 8, 12, 20), (10, 20, 30, 40, 50),
               "attenuation above that of air (or brightness) raised or lowered", _SCANNERS),
    Corruption("window", _window, "x", (1.1, 1.25, 1.5, 1.75, 2), (),
               "a narrower or wider window at the same level", "Huo et al. 2019, arXiv 1912.00420"),
    Corruption("pixel spacing", _spacing, "x", (1.25, 1.5, 2, 3, 4), (),
               "resampled to larger pixels and back",
               "Shafiq-ul-Hassan et al. 2017, Med. Phys. 44:1050"),
    Corruption("motion", _motion, "length", (2, 3, 4, 6, 8), (2, 4, 6, 8, 10),
               "straight path in a random direction",
               "Hendrycks, Dietterich 2019, arXiv 1903.12261"),
    Corruption("JPEG", _jpeg, "quality", (50, 30, 15, 10, 7), (), "compressed and decoded",
               _MEDMNIST),
    Corruption("contrast", _contrast, "x", (0.9, 0.8, 0.7, 0.6, 0.4), (), "about the image's mean",
               _MEDMNIST),
    Corruption("rotation", _rotate, "degrees", (5, 10, 15, 20, 30), (),
               "about the centre, in either direction", "Engstrom et al. 2019, arXiv 1712.02779"),
    Corruption("occlusion", _occlude, "% of the area", (5, 10, 20, 30, 40), (),
               "black square at a random place", "DeVries, Taylor 2017, arXiv 1708.04552"),
)  # fmt: skip

THICKNESS = Corruption(
    "slice thickness", _thicken, "slice intervals", (1.4, 1.8, 2.2, 2.6, 3), (),
    "mean over a thicker slice", _KERNELS,
)  # fmt: skip
