"""What `stagetransfer predict` finds in a folder."""

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ct.ct_series import ROOT, phantom, series
from stagetransfer.ct import PatchSettings, Problems
from stagetransfer.ct.png_slices import PngScale
from stagetransfer.inference import find_input


def test_a_png_that_pillow_cannot_open_is_no_patch(tmp_path):
    text = PngInfo()
    text.add_text("comment", "x" * 2_000_000, zip=True)
    image = Image.fromarray(np.zeros((32, 32), np.uint8))
    image.save(tmp_path / "good.png")
    image.save(tmp_path / "bad.png", pnginfo=text)
    problems = Problems()
    found = find_input(tmp_path, PatchSettings(), problems)
    assert found.patches == (tmp_path / "good.png",)
    assert problems.lines == ["bad.png: no image of 8 bits that can be read. Replace or remove it"]


def test_unreadable_images_among_patches_are_problems(tmp_path):
    patch = Image.fromarray(np.zeros((32, 32), np.uint8))
    patch.save(tmp_path / "good.jpg")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:20])
    Image.fromarray(np.zeros((32, 32), np.uint16)).save(tmp_path / "deep.tif")
    (tmp_path / "notes.txt").write_text("no image")
    problems = Problems()
    found = find_input(tmp_path, PatchSettings(), problems)
    assert found.patches == (tmp_path / "good.jpg",)
    assert [line.partition(":")[0] for line in problems.lines] == [
        "cut.jpg",
        "deep.tif",
        "empty.png",
    ]
    assert problems.counts == {"unreadable files": 3}


def test_a_damaged_slice_of_16_bits_is_not_a_patch(tmp_path):
    (tmp_path / "series").mkdir()
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(tmp_path / "series" / "1.png")
    (tmp_path / "series" / "2.png").touch()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "patch.png")
    problems = Problems()
    found = find_input(tmp_path, PatchSettings(), problems, scale=PngScale(1, -1024))
    assert found.patches == (tmp_path / "patch.png",)
    (volume,) = found.volumes
    assert (volume.files, volume.complete) == (("series/1.png",), False)
    assert problems.lines[0].startswith("series/2.png: not readable as PNG")


def test_series_of_one_patient_and_one_number_are_not_read(tmp_path):
    for name, patient, number in (("a", "P", 1), ("b", "P", 1), ("c", "Q", 1), ("d", "P", 2)):
        uid = f"{ROOT}.{ord(name)}"
        series(tmp_path / name, phantom(2), uid=uid, number=number, patient=patient)
    problems = Problems()
    found = find_input(tmp_path, PatchSettings(), problems)
    assert [found.volumes[number].files[0] for number in found.chosen] == ["c/00.dcm", "d/00.dcm"]
    assert problems.counts == {"series with the number of another": 2}
    assert "another series has the number 1 too" in problems.lines[0]
