"""CT slices and series in Hounsfield units, annotations, and ROI patches taken from them."""

from stagetransfer.ct.annotations import Annotations, CroppedMask, Point, Polygon, Region
from stagetransfer.ct.description import describe
from stagetransfer.ct.find_series import find_series
from stagetransfer.ct.input_problems import Problems
from stagetransfer.ct.label_table import LabelTable, read_label_table
from stagetransfer.ct.patch_dataset import summarise, write_dataset
from stagetransfer.ct.patch_extraction import Extraction, Patch, extract_patches
from stagetransfer.ct.png_slices import PngScale
from stagetransfer.ct.roi_patches import PatchSettings, Raster
from stagetransfer.ct.volume import Geometry, Volume
from stagetransfer.formats.unusable import Unreadable

__all__ = [
    "Annotations", "CroppedMask", "Extraction", "Geometry", "LabelTable",
    "Patch", "PatchSettings", "PngScale", "Point", "Polygon", "Problems", "Raster", "Region",
    "Unreadable", "Volume", "describe", "extract_patches", "find_series", "read_label_table",
    "summarise", "write_dataset",
]  # fmt: skip
