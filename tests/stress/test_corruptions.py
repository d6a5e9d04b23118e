"""Each corruption against its closed form or an independent implementation."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import fft, ndimage

from stagetransfer.ct.roi_patches import PatchSettings, apply_window
from stagetransfer.seeding import derive
from stagetransfer.stress.corruptions import CORRUPTIONS, SEVERITIES, THICKNESS, Scale, corrupt

CT, OTHER = Scale((-600.0, 1500.0)), Scale()
BY_NAME = {kind.name: kind for kind in CORRUPTIONS}
HU = 255 / 1500  # grey values per HU


def smooth(side=64, seed=0):
    """A textured image (side, side, 1) between 40 and 215."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), 2)
    noise = (noise - noise.min()) / np.ptp(noise)
    return (40 + 175 * noise).astype(np.uint8)[..., None]


def corrupted(name, severity=3, scale=CT, image=None, of="a"):
    image = smooth() if image is None else image
    return corrupt(image, BY_NAME[name], severity, scale, of).astype(float)


def flat(value, side=128):
    return np.full((side, side, 1), value, np.uint8)


def cosine(cycles, amplitude, side=64):
    """A cosine along the columns that keeps its form at a mirrored border."""
    wave = np.cos(np.pi * (2 * np.arange(side) + 1) * cycles / side)
    image = np.rint(127 + amplitude * wave).astype(np.uint8)
    return np.broadcast_to(image[None, :, None], (side, side, 1)), wave


def response(image, wave):
    """The amplitude of the wave in an image."""
    return (image[..., 0].mean(0) @ wave) / (wave @ wave)


def test_there_are_five_severities_and_each_amount_is_a_step_further():
    assert len(BY_NAME) == len(CORRUPTIONS) == 13
    for kind in CORRUPTIONS:
        for scale in (CT, OTHER):
            amounts = [kind.amount(severity, scale) for severity in SEVERITIES[1:]]
            assert amounts in (sorted(set(amounts)), sorted(set(amounts), reverse=True))
        assert kind.source.split()[0].isalpha() or "," in kind.source
        assert kind.unit(CT)


@pytest.mark.parametrize("kind", CORRUPTIONS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("scale", [CT, OTHER], ids=["ct", "other"])
@pytest.mark.parametrize("side", [28, 64])
def test_every_corruption(kind, scale, side):
    image = smooth(side)
    colours = np.concatenate([smooth(side, seed) for seed in range(3)], axis=2)
    grey = np.broadcast_to(image, (side, side, 3))
    for one in (image, colours):
        assert corrupt(one, kind, 0, scale, "a").tobytes() == one.tobytes()
        before = one.copy()
        distances = []
        for severity in SEVERITIES[1:]:
            found = corrupt(one, kind, severity, scale, "a")
            assert found.dtype == np.uint8
            assert found.shape == one.shape
            distances.append(np.abs(found - one.astype(float)).mean())
        assert (one == before).all()
        assert 0 < distances[0] < distances[-1]
    # A grey image that is stored in three channels stays grey, with the same values.
    for severity in (1, 5):
        expected = np.broadcast_to(corrupt(image, kind, severity, scale, "a"), grey.shape)
        assert (corrupt(grey, kind, severity, scale, "a") == expected).all()


def test_a_thicker_slice_is_a_mean_over_neighbours():
    scale = CT._replace(neighbours=True)
    assert scale.corruptions == (*CORRUPTIONS, THICKNESS)
    slices = np.random.default_rng(0).normal(128, 30, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    before, middle, after = np.moveaxis(slices.astype(float), -1, 0)
    for severity in SEVERITIES[1:]:
        found = corrupt(slices, THICKNESS, severity, scale, "a").astype(float)
        share = 1 / THICKNESS.amount(severity, scale)  # of the slice itself
        expected = share * middle + (1 - share) / 2 * (before + after)
        assert found[..., 1] == pytest.approx(expected, abs=0.5 + 1e-9)
        # Independent noise of variance v in each slice: v (share^2 + (1 - share)^2 / 2).
        variance = middle.var() * (share**2 + (1 - share) ** 2 / 2)
        assert found[..., 1].var() == pytest.approx(variance + 1 / 12, rel=0.06)
    thickest = (2 * before + middle) / 3  # the slice before the first is not known
    assert found[..., 0] == pytest.approx(thickest, abs=0.5 + 1e-9)
    assert corrupt(slices, THICKNESS, 0, scale, "a") is slices
    grey = np.broadcast_to(smooth(), (*smooth().shape[:2], 3))
    assert (corrupt(grey, THICKNESS, 5, scale, "a") == grey).all()


@pytest.mark.parametrize("name", ["quantum noise", "lower dose"])
def test_neighbouring_slices_have_independent_noise(name):
    slices = np.concatenate([flat(value) for value in (120, 127, 134)], axis=2)
    colour, other = (
        corrupt(slices, BY_NAME[name], 3, scale, "a") - slices.astype(float)
        for scale in (CT, CT._replace(neighbours=True))
    )
    assert np.ptp(colour, axis=2).max() == 0
    correlation = np.corrcoef(other.reshape(-1, 3).T)
    assert np.abs(correlation - np.eye(3)).max() < 0.05
    assert other.std((0, 1)) == pytest.approx(colour.std((0, 1)), rel=0.05)


def test_draws_depend_on_the_image_and_the_corruption_alone():
    names = [f"p{i}/x.png" for i in range(8)]
    image = smooth()

    def found(order):
        return {
            (kind.name, severity, name): corrupt(image, kind, severity, CT, name).tobytes()
            for name in order
            for severity in reversed(SEVERITIES)
            for kind in CORRUPTIONS
        }

    first = found(names)
    np.random.seed(3)  # noqa: NPY002  (the global generator must not matter)
    assert found(names[::-1]) == first
    fixed = {"kernel blur", "sharpening", "pixel spacing", "JPEG", "contrast"}
    for kind in CORRUPTIONS:
        different = {first[kind.name, 3, name] for name in names}
        assert (len(different) == 1) == (kind.name in fixed), kind.name


@pytest.mark.parametrize("severity", [1, 2, 3])
@pytest.mark.parametrize(("scale", "unit"), [(CT, HU), (OTHER, 2.55)])
def test_variance_of_quantum_noise(severity, scale, unit):
    sigma = BY_NAME["quantum noise"].amount(severity, scale) * unit
    noise = corrupted("quantum noise", severity, scale, flat(127)) - 127
    assert noise.var() == pytest.approx(sigma**2 + 1 / 12, rel=0.05)  # 1/12: rounding
    assert noise.mean() == pytest.approx(0, abs=4 * sigma / 128)
    neighbours = (noise[1:] * noise[:-1]).mean() / noise.var()
    assert abs(neighbours) < 0.04


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_variance_and_spectrum_of_a_lower_dose(severity):
    dose = BY_NAME["lower dose"].amount(severity, CT)
    noise = np.stack(
        [corrupted("lower dose", severity, CT, flat(127, 64), of=i)[..., 0] for i in range(40)]
    ) - 127  # fmt: skip
    variance = (30 * HU) ** 2 * (100 / dose - 1)
    assert noise.var() == pytest.approx(variance + 1 / 12, rel=0.05)
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(0) / 64**2
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    expected = np.where(f < 0.5, f * np.cos(np.pi * f) ** 4, 0)
    expected *= variance / expected.mean()
    for low, high in ((0.02, 0.08), (0.08, 0.16), (0.16, 0.26), (0.26, 0.36)):
        band = (f > low) & (f <= high)
        assert power[band].mean() == pytest.approx(expected[band].mean() + 1 / 12, rel=0.1)


@pytest.mark.parametrize("cycles", [3, 8, 14])
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_mtf_of_blur_and_sharpening(cycles, severity):
    f = cycles / 64
    image, wave = cosine(cycles, 100)
    sigma = BY_NAME["kernel blur"].amount(severity, CT)
    found = response(corrupted("kernel blur", severity, CT, image), wave)
    # A sampled Gaussian is not exactly one: its transfer has the aliases of the closed form.
    mtf = sum(np.exp(-2 * (np.pi * sigma * (f + k)) ** 2) for k in (-1, 0, 1))
    mtf /= sum(np.exp(-2 * (np.pi * sigma * k) ** 2) for k in (-1, 0, 1))
    assert found / 100 == pytest.approx(mtf, abs=0.01)
    image, wave = cosine(cycles, 20)
    weight = BY_NAME["sharpening"].amount(severity, CT)
    found = response(corrupted("sharpening", severity, CT, image), wave)
    assert found / 20 == pytest.approx(1 + weight * (1 - np.exp(-2 * (np.pi * f) ** 2)), abs=0.05)


def test_blur_elsewhere_is_a_share_of_the_side():
    small, large = smooth(50), smooth(50).repeat(4, 0).repeat(4, 1)
    one = corrupted("kernel blur", 5, OTHER, small)
    other = corrupted("kernel blur", 5, OTHER, large).reshape(50, 4, 50, 4).mean((1, 3))[..., None]
    assert np.abs(one - other)[5:-5, 5:-5].mean() < 1


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_offset_and_gain_in_hounsfield_units(severity):
    hu = np.array([-1300, -1000, -800, -600, -300])
    image = np.rint((hu + 600 + 750) * HU).astype(np.uint8)
    image = np.broadcast_to(image[:, None, None], (5, 5, 1))
    given = image / HU - 1350
    signs = set()
    for of in range(12):
        amount = BY_NAME["offset"].amount(severity, CT)
        found = corrupted("offset", severity, CT, image, of) / HU - 1350
        (sign,) = {s for s in (-1, 1) if np.allclose(found, np.clip(given + s * amount, -1350, 150),
                                                     atol=0.51 / HU)}  # fmt: skip
        assert np.sign(corrupted("offset", 1, CT, image, of) - image)[2, 0, 0] == sign
        signs.add(sign)
        factor = BY_NAME["gain"].amount(severity, CT) / 100
        found = corrupted("gain", severity, CT, image, of) / HU - 1350
        each = [-1000 + (1 + s * factor) * (given + 1000) for s in (-1, 1)]
        assert any(np.allclose(found, np.clip(x, -1350, 150), atol=0.51 / HU) for x in each)
        assert abs(found[1] + 1000).max() < 0.51 / HU + 1  # air stays
    assert signs == {-1, 1}


def test_a_window_is_that_of_the_extraction():
    image = smooth()
    hu = image / HU - 1350
    for severity in SEVERITIES[1:]:
        factor = BY_NAME["window"].amount(severity, CT)
        found = corrupted("window", severity, CT, image)
        each = [
            apply_window(hu, PatchSettings(width=1500 * width)) for width in (factor, 1 / factor)
        ]
        assert min(np.abs(found - x).max() for x in each) <= 1


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_as_pillow_does(severity):
    image = smooth()
    picture = Image.fromarray(image[..., 0])

    def far(name, other, scale=OTHER, of="a"):
        found = corrupted(name, severity, scale, image, of)[..., 0]
        return np.abs(found - np.asarray(other, float)).max()

    side = round(64 / BY_NAME["pixel spacing"].amount(severity, CT))
    bicubic = Image.Resampling.BICUBIC
    assert far("pixel spacing", picture.resize((side, side), bicubic).resize((64, 64), bicubic)) < 3
    contrast = BY_NAME["contrast"].amount(severity, CT)
    assert far("contrast", ImageEnhance.Contrast(picture).enhance(contrast)) <= 1
    percent = BY_NAME["gain"].amount(severity, OTHER) / 100
    bright = [ImageEnhance.Brightness(picture).enhance(1 + s * percent) for s in (-1, 1)]
    assert min(far("gain", other) for other in bright) <= 1
    degrees = BY_NAME["rotation"].amount(severity, CT)
    turned = [picture.rotate(s * degrees, Image.Resampling.BILINEAR) for s in (-1, 1)]
    found = corrupted("rotation", severity, CT, image)[16:-16, 16:-16, 0]
    assert min(np.abs(found - np.asarray(x, float)[16:-16, 16:-16]).max() for x in turned) <= 2


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_motion_is_the_mean_of_shifted_images(severity):
    image, length = smooth(), BY_NAME["motion"].amount(severity, CT)
    angle = np.random.default_rng(derive(0, "motion", "a")).uniform(0, np.pi)
    steps = np.linspace(-length / 2, length / 2, 201)
    moved = [
        ndimage.shift(image[..., 0].astype(float), (t * np.sin(angle), t * np.cos(angle)),
                      order=1, mode="reflect")
        for t in steps
    ]  # fmt: skip
    found = corrupted("motion", severity, CT, image)[..., 0]
    assert np.abs(found - np.mean(moved, axis=0)).max() < 2
    assert corrupted("motion", severity, CT, flat(90)).tolist() == flat(90).tolist()


def test_the_area_of_an_occlusion():
    places = set()
    for of in range(5):
        for severity in SEVERITIES[1:]:
            black = corrupted("occlusion", severity, CT, flat(200, 100), of)[..., 0] == 0
            percent = BY_NAME["occlusion"].amount(severity, CT)
            assert black.mean() == pytest.approx(percent / 100, abs=0.01)
            rows, columns = black.any(1).sum(), black.any(0).sum()
            assert rows == columns
            assert rows * columns == black.sum()
        places.add(tuple(np.argwhere(black)[0]))
    assert len(places) == 5


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_jpeg_rounds_the_cosines_of_blocks(severity):
    image, file = smooth(), io.BytesIO()
    quality = int(BY_NAME["JPEG"].amount(severity, CT))
    Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
    steps = np.reshape(Image.open(file).quantization[0], (8, 8))
    blocks = image.astype(float).reshape(8, 8, 8, 8).transpose(0, 2, 1, 3) - 128
    rounded = np.rint(fft.dctn(blocks, axes=(2, 3), norm="ortho") / steps) * steps
    expected = fft.idctn(rounded, axes=(2, 3), norm="ortho") + 128
    found = corrupted("JPEG", severity, CT, image).reshape(8, 8, 8, 8).transpose(0, 2, 1, 3)
    # libjpeg's cosines are not exact, so that a few coefficients are rounded the other way.
    assert (np.abs(found - np.clip(expected, 0, 255)) <= 2).mean() > 0.9


def test_jpeg_of_colours_is_a_colour_image():
    colours = np.concatenate([smooth(32, seed) for seed in range(3)], axis=2)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "JPEG", quality=15)
    expected = np.asarray(Image.open(file), float)
    assert (corrupted("JPEG", 3, OTHER, colours) == expected).all()
