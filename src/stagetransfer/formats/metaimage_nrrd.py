"""MetaImage (.mhd, .mha) and NRRD (.nrrd, .nhdr) volumes, read by SimpleITK."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from stagetransfer.errors import first_line, require_extra
from stagetransfer.files import check_size, require_file
from stagetransfer.formats.grid import Grid, no_orientation, oriented
from stagetransfer.formats.unusable import MAX_VALUES, Unreadable

SUFFIXES = (".mhd", ".mha", ".nrrd", ".nhdr")
# "Key = value" in MetaImage; "key: value" and "key:=value" in NRRD.
_FIELD = re.compile(r"^([^#:=\n]+?)\s*(?:=|:=?)\s*(.*?)\s*$", re.MULTILINE)
_SEGMENT = re.compile(r"segment\d+_labelvalue")
_ORIENTATION = {"transformmatrix", "rotation", "orientation", "space"}
_SCALE = {"elementtointensityfunctionslope": 1.0, "elementtointensityfunctionoffset": 0.0}


def is_voxel_file(path: Path) -> bool:
    """Whether a file only holds the voxels of a header beside it (.raw of .mhd or .nhdr)."""
    stem, _, suffix = path.name.lower().removesuffix(".gz").rpartition(".")
    names = (path.with_name(path.name[: len(stem)] + one) for one in (".mhd", ".nhdr"))
    return suffix in ("raw", "zraw") and any(name.exists() for name in names)


def read_metaimage_or_nrrd(path: Path) -> Grid:
    """Read a whole volume into memory, or raise Unusable. Segments of 3D Slicer have names."""
    with require_extra("formats", path):
        import SimpleITK
    sitk: Any = SimpleITK  # its functions have no type hints
    try:
        header = _header(path)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        if (parts := reader.GetNumberOfComponents()) != 1:
            raise ValueError(f"{parts} values per voxel. Export a mask as one label map")
        if len(size := reader.GetSize()) != 3:
            raise ValueError(f"{len(size)} dimensions of sizes {size}, not a volume")
        _check_sizes(path, size, sitk.Image([1] * 3, reader.GetPixelID()), header)
        image = reader.Execute()
        segments = [key.partition("_")[0] for key in header if _SEGMENT.fullmatch(key)]
        labels = {int(header[f"{s}_labelvalue"]): header.get(f"{s}_name", "") for s in segments}
    except RuntimeError as error:  # of SimpleITK, whose texts name its source files
        raise Unreadable("not readable by SimpleITK (truncated or damaged)") from error
    except (OSError, ValueError) as error:
        raise Unreadable(f"not readable by SimpleITK ({first_line(error)})") from error
    if not _ORIENTATION & header.keys():
        raise no_orientation("TransformMatrix (MetaImage) and no space (NRRD)")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return oriented(sitk.GetArrayFromImage(image).T, affine, labels=labels)


def _header(path: Path) -> dict[str, str]:
    """Return the fields of the header by their names in lower case."""
    require_file(path)
    with path.open("rb") as file:
        start = file.read(2**20).decode("latin-1").replace("\r\n", "\n")
    # The voxels follow an empty line in NRRD, and the field ElementDataFile in MetaImage.
    text = start.partition("\n\n")[0] if start.startswith("NRRD") else start
    header: dict[str, str] = {}
    for match in _FIELD.finditer(text):
        header[match[1].lower()] = match[2]
        if match[1] == "ElementDataFile":
            break
    for name, default in _SCALE.items():
        if float(header.get(name, default)) != default:
            raise ValueError(f"{name} is not {default:g}. Write Hounsfield units")
    return header


def _check_sizes(path: Path, size: tuple[int, ...], voxel: Any, header: dict[str, str]) -> None:
    """Raise OSError or ValueError if the header promises more than its file can hold."""
    check_size(*size[:2])
    count = math.prod(size)
    if count > MAX_VALUES:
        raise ValueError(f"{count} voxels, more than {MAX_VALUES >> 20} million")
    keys = ("elementdatafile", "data file", "datafile")
    name = next((header[key] for key in keys if key in header), "LOCAL")
    voxels = path if name == "LOCAL" else path.with_name(name)
    if Path(name).name != name or not voxels.is_file():
        raise ValueError(f"its voxels are not in one file beside it, but in {name}")
    plain = header.get("encoding", header.get("compresseddata", "False")).lower()
    factor = 1 if plain in ("raw", "false") else 1100  # by which zlib shrinks at most
    if count * voxel.GetSizeOfPixelComponent() > voxels.stat().st_size * factor:
        raise ValueError("the file is truncated")
