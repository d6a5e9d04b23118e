"""The table of docs/extract.md: which kinds of files are read, and what a second library says.

    python -m tests.ct.compatibility

Each kind is a file or folder that this module writes, or that pydicom or nibabel ship. It is read
as `extract` reads it, and by a reference reader. Every pixel is looked up in the reference by its
position in the patient, so that values, positions and directions are compared at once.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pydicom.data
import SimpleITK as sitk
from pydicom.pixels.processing import apply_modality_lut

sys.path.insert(0, str(Path(__file__).parent))  # as pytest does

from compatibility_kinds import HU, TRUTH, Kind, kinds

from stagetransfer.ct import LabelTable, Problems, Raster, Volume, find_series
from stagetransfer.ct.mask_annotations import open_annotations

# The values (X, Y, Z) of a volume or a slice, and the matrix from voxels to mm in DICOM's axes.
Block = tuple[np.ndarray, np.ndarray]
FLIP = np.diag([-1.0, -1, 1, 1])


def by_pydicom(folder: Path) -> Iterator[Block]:
    for path in sorted(folder.rglob("*")):
        data = pydicom.dcmread(path, force=True) if path.is_file() else {}
        if path.name == "DICOMDIR" or "ImagePositionPatient" not in data or "PixelData" not in data:
            continue
        if "TransferSyntaxUID" not in data.file_meta:
            implicit = data.original_encoding[0]
            data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2" + ".1" * (not implicit)
        right, down = np.split(np.array(data.ImageOrientationPatient, dtype=float), 2)
        row, column = map(float, data.PixelSpacing)
        steps = np.column_stack([right * column, down * row, np.cross(right, down)])
        affine = nibabel.affines.from_matvec(steps, np.array(data.ImagePositionPatient, float))
        yield apply_modality_lut(data.pixel_array, data).T[:, :, None], affine


def by_simpleitk(path: Path) -> Iterator[Block]:
    """The only volume of a folder."""
    (file,) = (one for one in path.iterdir() if "raw" not in one.suffixes[0])
    yield from block_of(sitk.ReadImage(str(file)))


def by_gdcm(path: Path) -> Iterator[Block]:
    """The only DICOM series of a folder, by the GDCM in SimpleITK."""
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path))
    yield from block_of(sitk.ReadImage(names))


def block_of(image: sitk.Image) -> Iterator[Block]:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    yield sitk.GetArrayFromImage(image).T, affine


def by_nibabel(path: Path) -> Iterator[Block]:
    for file in sorted(path.rglob("*.nii*")):
        if not file.name.startswith("._"):
            image = nibabel.load(file)
            yield image.get_fdata(), FLIP @ image.affine


def by_highdicom(path: Path) -> Iterator[Block]:
    """An enhanced CT, or a segmentation with its segments as values."""
    (file,) = path.glob("*.dcm")
    image = hd.imread(file)
    options = {"combine_segments": True} if isinstance(image, hd.seg.Segmentation) else {}
    volume = image.get_volume(**options)
    yield volume.array.T, volume.affine[:, [2, 1, 0, 3]]


READERS: dict[str, Callable[[Path], Iterator[Block]]] = {
    "pydicom": by_pydicom,
    "GDCM": by_gdcm,
    "SimpleITK": by_simpleitk,
    "nibabel": by_nibabel,
    "highdicom": by_highdicom,
}


def compared(volume: Volume, index: int, values: np.ndarray, blocks: list[Block]) -> list[float]:
    """Return the greatest differences of a slice's values (H, W) and of its positions in mm."""
    place, (row, column) = volume.geometry, volume.spacing
    y, x = np.indices(values.shape)
    points = place.origins[index] + (x * column)[..., None] * place.right
    points = points + (y * row)[..., None] * place.down
    found = []
    for array, affine in blocks:
        voxels = nibabel.affines.apply_affine(np.linalg.inv(affine), points)
        near = np.rint(voxels).astype(int)
        if ((near < 0) | (near >= array.shape)).any():
            continue
        distance = np.linalg.norm((voxels - near) @ affine[:3, :3].T, axis=-1).max()
        found.append([float(np.abs(array[tuple(near.T)].T - values).max()), float(distance)])
    # A mask may omit slices on which there is nothing.
    nothing = [float(np.abs(values).max()), 0.0 if not values.any() else np.inf]
    return min(found, key=lambda one: (one[1] > 0.01, one[0]), default=nothing)


def row_of(kind: Kind, folder: Path) -> list[str]:
    """Return the kind's row: file, result, reference reader, differences in HU and mm."""
    kind.write(folder / "in")
    problems = Problems()
    volumes, others = find_series(folder / "in", problems, **kind.options)
    if problems.counts:
        return [kind.name, f"refused: {', '.join(problems.counts)}", "", "", ""]
    if kind.mask is not None:
        return mask_row(kind, folder, volumes)
    series = "" if len(volumes) == 1 else f"{len(volumes)} series, "
    text = f"read: {series}{sum(map(len, volumes))} slices"
    blocks = list(READERS[kind.reference](folder / "in"))
    pixels = sum(one.shape[0] * one.shape[1] * len(one) for one in volumes)
    assert sum(array.size for array, _ in blocks) == pixels, kind.name
    both = [compared(v, i, v.read_slice(i), blocks) for v in volumes for i in range(len(v))]
    differences = [f"{value:.3g}" for value in np.max(both, axis=0).round(3)]
    return [kind.name, text + (f", {others} left out" * bool(others)), kind.reference, *differences]


def mask_row(kind: Kind, folder: Path, volumes: tuple[Volume, ...]) -> list[str]:
    """Return the row of a mask or outline: its value 1 must be the label "a" of the regions."""
    kind.mask(folder / "mask")
    labels, problems = LabelTable({"1": "a", "GGO": "a", "*": ""}), Problems()
    (path,) = [one for one in (folder / "mask").iterdir() if one.suffix not in (".raw", ".zraw")]
    regions = list(open_annotations(path, volumes, labels, problems).regions_of(0))
    if problems.counts:
        return [kind.name, f"refused: {', '.join(problems.counts)}", "", "", ""]
    planes = np.zeros(HU.shape)
    for region in regions:
        planes[region.index] += Raster(volumes[0].shape).draw(region.shape)
    if kind.reference in READERS:
        found = READERS[kind.reference](folder / "mask")
        blocks = [(array == 1, affine) for array, affine in found]
        both = [compared(volumes[0], i, plane, blocks) for i, plane in enumerate(planes)]
    else:
        both = [[np.abs(planes - TRUTH).max(), 0.0]]
    differences = [f"{value:.3g}" for value in np.max(both, axis=0).round(3)]
    return [kind.name, f"read: {planes.sum():.0f} pixels", kind.reference, *differences]


def table() -> list[list[str]]:
    """Return the rows of the table, without its header."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        return [row_of(kind, Path(folder) / str(n)) for n, kind in enumerate(kinds())]


def markdown() -> str:
    """Return the table as it stands in the documentation."""
    header = ["file", "result", "reference", "HU", "mm"]
    rows = [header, ["---"] * 5, *table()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
