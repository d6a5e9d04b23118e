"""What `stagetransfer predict` finds in a folder."""

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

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
