"""Images and tables that would take all memory, never end, or break the terminal."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from stagetransfer.data.images import decode
from stagetransfer.errors import UserError
from stagetransfer.files import MAX_PIXELS, open_image
from stagetransfer.layouts import check_images, read


def png(path, width, height):
    """Write a PNG whose header promises this size; its data ends after a few rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(9999))), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        check = struct.pack(">I", zlib.crc32(kind + data))
        content += struct.pack(">I", len(data)) + kind + data + check
    path.write_bytes(content)
    return path


def patches(root, *classes):
    for label in classes:
        (root / label).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((8, 8), i, np.uint8)).save(root / label / f"{i}.png")
    return root


def refused(call, *arguments, **options):
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 1000
    return str(caught.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [13_000, 65_535])
def test_an_image_that_is_too_large_is_not_decoded(tmp_path, side):
    file = png(tmp_path / "set" / "a" / "large.png", side, side)
    patches(tmp_path / "set" / "b", "x")
    assert "pixels" in refused(decode, file, 67, "crop")
    samples = read("folder", tmp_path / "set")
    line = refused(check_images, samples)
    assert "large.png" in line
    assert "limit of 80 million" in line or "exceeds limit" in line


def test_the_limit_is_one_of_pixels(tmp_path):
    with open_image(png(tmp_path / "a.png", MAX_PIXELS, 1)):
        pass
    with (
        pytest.raises(OSError, match="80000001 x 1 pixels"),
        open_image(png(tmp_path / "b.png", MAX_PIXELS + 1, 1)),
    ):
        pass


@pytest.mark.parametrize("place", ["a/3.png", "labels.csv"])
def test_pipes_are_not_opened(tmp_path, place):
    patches(tmp_path, "a", "b")
    os.mkfifo(tmp_path / place)
    layout = "csv" if place == "labels.csv" else "folder"
    assert "a pipe" in refused(read, layout, tmp_path)
    assert refused(decode, tmp_path / place, 67, "crop")


def test_labels_that_would_break_a_line(tmp_path):
    patches(tmp_path, "a", "b")
    table = tmp_path / "labels.csv"
    for label in ("x\ny", "\x1b[31m", "x" * 5000):
        table.write_text(f'file,label\na/0.png,a\nb/1.png,"{label}"\n')
        assert "rename it" in refused(read, "csv", tmp_path)
    table.write_text(f"file,label\na/0.png,a\n{'x' * 5000}.png,b\n")
    assert "line 3: a file name of 5004 characters" in refused(read, "csv", tmp_path)
    os.rename(tmp_path / "a", tmp_path / "a\nb")
    assert "rename it" in refused(read, "folder", tmp_path)


def test_a_table_of_extract_gives_its_labels_back(tmp_path):
    patches(tmp_path, "a", "b")
    (tmp_path / "labels.csv").write_text("file,label\na/0.png,'=1+1\nb/1.png,-1\n")
    assert read("csv", tmp_path).classes == ("-1", "=1+1")
