"""What `stagetransfer predict` finds in a folder."""

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ct.ct_series import ROOT, phantom, series
from stagetransfer.ct import PatchSettings, Problems
from stagetransfer.errors import UserError
from stagetransfer.inference import find_input


def test_a_png_that_pillow_cannot_open_is_no_patch(tmp_path):
    text = PngInfo()
    text.add_text("comment", "x" * 2_000_000, zip=True)
    image = Image.fromarray(np.zeros((32, 32), np.uint8))
    image.save(tmp_path / "good.png")
    image.save(tmp_path / "bad.png", pnginfo=text)
    with pytest.raises(UserError, match=r"bad\.png: a PNG does not contain the scale"):
        find_input(tmp_path, PatchSettings(), Problems())


def test_series_of_one_patient_and_one_number_are_not_read(tmp_path):
    for name, patient, number in (("a", "P", 1), ("b", "P", 1), ("c", "Q", 1), ("d", "P", 2)):
        uid = f"{ROOT}.{ord(name)}"
        series(tmp_path / name, phantom(2), uid=uid, number=number, patient=patient)
    problems = Problems()
    found = find_input(tmp_path, PatchSettings(), problems)
    assert [found.volumes[number].files[0] for number in found.chosen] == ["c/00.dcm", "d/00.dcm"]
    assert problems.counts == {"series with the number of another": 2}
    assert "another series has the number 1 too" in problems.lines[0]
