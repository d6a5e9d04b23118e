"""Every image that Pillow can write is decoded to the right pixels, or refused with one line."""

import struct
import zlib

import numpy as np
import pytest
import torchvision
from PIL import Image

from stagetransfer.data.images import decode
from stagetransfer.errors import UserError
from stagetransfer.image_files import OPAQUE, TURNED, read_image
from stagetransfer.layouts import check_images, read
from stagetransfer.layouts.folder_walk import SUFFIXES
from stagetransfer.layouts.image_check import NOT_SQUARE

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (24, 24, 3), dtype=np.uint8)
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "I;16B", "F")
LOSSY = ("CMYK", "YCbCr")  # their conversion to RGB rounds
CONVERTED = (".webp", ".ppm", ".pgm", ".bmp")  # Pillow converts other modes when it saves them


def image_of(mode):
    """Random pixels of a mode, the alpha channel included."""
    if mode == "LAB":
        return Image.frombytes("LAB", (24, 24), COLOURS.tobytes())
    if mode.startswith("I;16"):
        return Image.frombytes(mode, (24, 24), RANDOM.bytes(24 * 24 * 2))
    image = Image.fromarray(COLOURS).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(RANDOM.integers(0, 256, (24, 24), dtype=np.uint8)))
    return image


def expected(image):
    """The RGB pixels on black, by arithmetic."""
    if image.mode not in ("LA", "RGBA"):
        return np.asarray(image.convert("RGB")).astype(float)
    pixels = np.asarray(image.convert("RGBA")).astype(float)
    return pixels[..., :3] * pixels[..., 3:] / 255


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_format(tmp_path, mode, suffix):
    image, path = image_of(mode), tmp_path / f"x{suffix}"
    options = {".webp": {"lossless": True, "exact": True}, ".jpg": {"quality": 95}}.get(suffix, {})
    try:
        image.save(path, **options)
    except (OSError, KeyError, ValueError):
        pytest.skip("Pillow cannot write it")
    with Image.open(path) as stored:
        wide = stored.mode.startswith(("I", "F")) or stored.mode == "LAB"
    if wide:
        with pytest.raises(UserError) as caught:
            read_image(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
        return
    pixels = np.asarray(read_image(path, mode="RGB").image).astype(float)
    if suffix in (".jpg", ".jpeg", ".jfif", ".jpe"):  # the referee: another decoder
        if mode == "CMYK":
            pytest.skip("torchvision inverts CMYK in another way")
        other = torchvision.io.decode_image(str(path), mode="RGB").movedim(0, -1).numpy()
        assert np.abs(pixels - other).max() <= 3
    elif suffix == ".gif" or (suffix in CONVERTED and mode not in MODES[:6]):
        with Image.open(path) as stored:
            assert np.abs(pixels - expected(stored.convert("RGBA"))).max() <= 1
    else:
        if suffix in (".ppm", ".pgm", ".bmp") and mode in ("LA", "RGBA"):
            image = image.convert("RGB")  # these formats have no alpha
        assert np.abs(pixels - expected(image)).max() <= (3 if mode in LOSSY else 1)
    if suffix in (".png", ".webp") and mode in ("1", "L", "P", "RGB"):
        other = torchvision.io.decode_image(str(path), mode="RGB").movedim(0, -1).numpy()
        assert np.array_equal(pixels, other)


def png16(path, colour):
    """A PNG of 16 bits per channel, with the values 1000 to 1063: colour type 0, 2, 4 or 6."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = b"\0" + np.repeat(np.arange(1000, 1064), channels).astype(">u2").tobytes()
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 64, 64, 16, colour, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(row * 64)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data
        content += struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)


def tiff16(path, order):
    """An uncompressed RGB TIFF of 16 bits per channel, in the byte order "<" or ">"."""
    entry = f"{order}HHII"
    data = np.arange(1000, 1000 + 8 * 8 * 3).astype(f"{order}u2").tobytes()
    bits = 8 + 2 + 10 * 12 + 4
    short = (lambda value: value << 16) if order == ">" else (lambda value: value)
    fields = [
        (256, 3, 1, short(8)), (257, 3, 1, short(8)), (258, 3, 3, bits), (259, 3, 1, short(1)),
        (262, 3, 1, short(2)), (273, 4, 1, bits + 6), (277, 3, 1, short(3)), (278, 3, 1, short(8)),
        (279, 4, 1, len(data)), (284, 3, 1, short(1)),
    ]  # fmt: skip
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(f"{order}IH", 8, len(fields))
    table = b"".join(struct.pack(entry, *field) for field in fields)
    path.write_bytes(head + table + bytes(4) + struct.pack(f"{order}HHH", 16, 16, 16) + data)


@pytest.mark.parametrize("kind", ["png 0", "png 2", "png 4", "png 6", "tiff <", "tiff >", "ppm"])
def test_sixteen_bits_are_refused_and_not_cut_to_eight(tmp_path, kind):
    format_, _, detail = kind.partition(" ")
    path = tmp_path / f"x.{format_}"
    if format_ == "png":
        png16(path, int(detail))
    elif format_ == "tiff":
        tiff16(path, detail)
    else:
        path.write_bytes(b"P6 2 2 4095\n" + np.arange(1000, 1012).astype(">u2").tobytes())
    with Image.open(path) as image:
        image.load()  # it is an image that Pillow reads
    with pytest.raises(UserError, match="more than 8 bits per channel"):
        decode(path, 64, "crop")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, suffix, orientation):
    """EXIF 2.32, table 6: which side of the picture row 0 and column 0 are."""
    upright = np.zeros((48, 32), np.uint8)
    upright[:24, :16], upright[:24, 16:], upright[24:, :16] = 240, 160, 80
    turns = {
        1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud,
        5: np.transpose, 6: lambda x: np.rot90(x, 1), 7: lambda x: np.rot90(x, 2).T,
        8: lambda x: np.rot90(x, 3),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    options = {".webp": {"lossless": True}, ".tif": {"compression": "tiff_lzw"}}.get(suffix, {})
    stored.save(tmp_path / f"x{suffix}", exif=exif, **options)
    image, changes = read_image(tmp_path / f"x{suffix}", mode="L")
    assert np.abs(np.asarray(image).astype(int) - upright).max() <= 8
    assert changes == ((TURNED,) if orientation > 1 else ())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_uncompressed_tiff_that_is_turned(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("L", (9, 5), 7).save(tmp_path / "x.tif", exif=exif)
    if orientation < 5:
        assert read_image(tmp_path / "x.tif").image.size == (9, 5)
    else:
        with pytest.raises(UserError, match="save it upright"):
            read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("suffix", [".tif", ".png", ".webp", ".gif"])
def test_several_frames_are_refused(tmp_path, suffix):
    first, second = (Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (0, 255))
    first.save(tmp_path / f"x{suffix}", save_all=True, append_images=[second])
    with pytest.raises(UserError, match="2 frames"):
        decode(tmp_path / f"x{suffix}", 8, "crop")
    first.save(tmp_path / f"one{suffix}")
    assert decode(tmp_path / f"one{suffix}", 8, "crop").max() == 0


def test_transparent_pixels_are_black(tmp_path):
    image = Image.new("RGBA", (4, 4), (200, 100, 50, 0))
    image.save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").changes == (OPAQUE,)
    assert decode(tmp_path / "clear.png", 4, "crop").max() == 0
    image.putalpha(255)
    image.save(tmp_path / "opaque.png")
    assert read_image(tmp_path / "opaque.png").changes == ()
    assert decode(tmp_path / "opaque.png", 4, "crop")[0, 0].tolist() == [200, 100, 50]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert decode(tmp_path / "palette.png", 4, "crop").max() == 0


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".gif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_found_by_the_check(tmp_path, suffix, share):
    for name in "ab":
        for number in range(2):
            path = tmp_path / name / f"{number}{suffix}"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(RANDOM.integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    check_images(read("folder", tmp_path))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=str(path)):
        check_images(read("folder", tmp_path))


def test_the_check_counts_what_it_changes(tmp_path, caplog):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            level = Image.new("L", (8, 8), number)
            level.save(tmp_path / name / f"{number}.png", **({"exif": exif} if number else {}))
    with caplog.at_level("INFO"):
        digests = check_images(read("folder", tmp_path))
    assert f"4 of 6 images were {TURNED}" in caplog.text
    assert digests[:3].tolist() == digests[3:].tolist()
    assert len(set(digests.tolist())) == 3


@pytest.mark.parametrize(("size", "found"), [((10, 8), False), ((11, 8), True), ((8, 11), True)])
def test_the_check_counts_images_that_are_far_from_square(tmp_path, caplog, size, found):
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("L", size if name == "a" else (8, 8)).save(tmp_path / name / "0.png")
    with caplog.at_level("INFO"):
        check_images(read("folder", tmp_path))
    assert (f"1 of 2 images were {NOT_SQUARE}" in caplog.text) is found
