"""Annotations from a CSV with one row per point, box or polygon.

The columns are described in docs/extract.md: `label`; the series by `series`, `file`, `patient` or
`sop`; the slice by one of `slice`, `instance`, `z` and `sop`; `x` and `y`, with `width` and
`height` for a box, or `points` for a polygon; `unit` of these; `split`.
"""

import posixpath
from collections import defaultdict
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from stagetransfer.csv_records import records
from stagetransfer.ct.annotations import Point, Polygon, Region
from stagetransfer.ct.input_problems import Problems
from stagetransfer.ct.label_table import LabelTable
from stagetransfer.ct.volume import Volume
from stagetransfer.errors import UserError
from stagetransfer.formats.unusable import Floats, Unusable
from stagetransfer.names import SPLITS

_SLICE_COLUMNS = ("slice", "instance", "z", "sop")
_PLACE_COLUMNS = ("x", "y", "width", "height")
_COLUMNS = {
    "label", "series", "file", "patient", "points", "unit", "split",
    *_SLICE_COLUMNS, *_PLACE_COLUMNS,
}  # fmt: skip
_UNITS = ("pixel", "mm", "patient")
_NO_SLICE = "annotations of no slice"
_BAD_NUMBER = "annotations with a bad number"


class CsvAnnotations:
    """The rows of a CSV, each assigned to a series and a slice; see the module for the columns."""

    def __init__(
        self, path: Path, volumes: Sequence[Volume], labels: LabelTable, problems: Problems
    ) -> None:
        rows = list(records(path, ["label"], "give the right path"))
        if not rows:
            raise UserError(f"{path}: no rows. Add one row per annotation")
        columns = rows[0][1]
        if "points" not in columns and not {"x", "y"} <= columns.keys():
            raise UserError(
                f"{path}: no columns x and y, and no column points. "
                f"The columns are: {', '.join(columns)}"
            )
        if ("width" in columns) != ("height" in columns):
            raise UserError(f"{path}: width without height or height without width. Give both")
        if ignored := [name for name in columns if name and name not in _COLUMNS]:
            _check_ignored(path, ignored)
            text = f"columns that are not used: {', '.join(ignored)}"
            problems.note("columns that are not used", path, text)
        chosen = [name for name in _SLICE_COLUMNS if name in columns]
        if len(chosen) > 1:
            raise UserError(
                f"{path}: columns {' and '.join(chosen)} both name the slice. Keep one of them"
            )
        self._volumes, self._labels = volumes, labels
        self._numbers: defaultdict[str, set[int]] = defaultdict(set)  # of the series, by name
        for number, volume in enumerate(volumes):
            for name in (*volume.names, *volume.files, *volume.sop_uids):
                self._numbers[name].add(number)
        self._regions: defaultdict[int, list[Region]] = defaultdict(list)
        for line, cells in rows:
            where = f"{path} line {line}"
            with problems.recording(where):
                self._add(where, cells)

    def regions_of(self, volume: int) -> list[Region]:
        """Return the regions of a series, given its number in the list of series."""
        return self._regions[volume]

    def _add(self, where: str, cells: dict[str, str]) -> None:
        label = self._labels.name_of(cells["label"])
        if label == "" and cells["label"]:
            return
        if not label:
            text = f"no name for label {cells['label']!r}"
            raise Unusable("annotations without a known label", text)
        split = cells.get("split") or None
        if "split" in cells and split not in SPLITS:
            text = f"split must be one of {', '.join(SPLITS)}"
            raise Unusable("annotations of no known split", text)
        number = self._find_volume(cells)
        volume = self._volumes[number]
        index = _slice_index(volume, cells)
        vertices = _pixels(cells, volume, index)
        if not volume.holds(vertices):
            height, width = volume.shape
            text = f"the annotation extends beyond the slice of {width} x {height} pixels"
            raise Unusable("annotations outside the image", text)
        shape = Point(*vertices[0].tolist()) if len(vertices) == 1 else Polygon(vertices)
        self._regions[number].append(Region(index, label, shape, where, split))

    def _find_volume(self, cells: dict[str, str]) -> int:
        """Return the number of the only series that the row's file, series and patient match."""
        keys = ("file", "sop", "series", "patient")
        given = {key: _normalised(cells.get(key, "")) for key in keys}
        file, sop, series, patient = given.values()
        found = [
            number
            for number, volume in enumerate(self._volumes)
            if all(number in self._numbers.get(one, ()) for one in (file, sop) if one)
            and (not series or series in volume.names)
            and (not patient or patient == volume.patient)
        ]
        named = " ".join(f"{key} {value}" for key, value in given.items() if value)
        if not found:
            raise Unusable("annotations of no series", f"no series matches {named or 'the row'}")
        if len(found) > 1:
            first, second = (self._volumes[number].where for number in found[:2])
            text = f"{named or 'the row'} matches {len(found)} series, for example {first} and "
            text += f"{second}. Name one by file, folder, UID or patient"
            raise Unusable("annotations of several series", text)
        return found[0]


def _check_ignored(path: Path, names: Sequence[str]) -> None:
    """Raise UserError if a column without a meaning has nearly the name of another one."""
    for name in names:
        for meant in get_close_matches(name, sorted(_COLUMNS), 1, 0.85):
            raise UserError(
                f"{path}: column {name!r} has no meaning, but {meant!r} has one. Call it {meant!r} "
                "if that is meant, or give it a name that is less alike"
            )


def _normalised(path: str) -> str:
    """Return a path as `Volume` has it: forward slashes, and none at the end."""
    return posixpath.normpath(path.replace("\\", "/")) if path else ""


def _slice_index(volume: Volume, cells: dict[str, str]) -> int:
    column = next((name for name in _SLICE_COLUMNS if cells.get(name)), None)
    file = _normalised(cells.get("file", ""))
    own = volume.files.index(file) if volume.files.count(file) == 1 else None
    if column is None:
        if own is not None or len(volume) == 1:
            return own or 0
        raise Unusable(_NO_SLICE, "the row names no slice. Fill in slice, instance, z or sop")
    value = float("nan") if column == "sop" else _number(cells, column)
    if column == "slice":
        if not volume.complete:
            text = "slice numbers are uncertain where slices are missing. Use instance, z or file"
            raise Unusable("annotations of an uncertain slice", text)
        if value not in range(len(volume)):
            raise Unusable(_NO_SLICE, f"slice {value:g} is not one of 0 to {len(volume) - 1}")
        index = int(value)
    elif column == "sop":
        if (count := volume.sop_uids.count(cells[column])) != 1:
            raise Unusable(_NO_SLICE, f"{count or 'no'} slices have sop {cells[column]}")
        index = volume.sop_uids.index(cells[column])
    elif column == "instance":
        count = volume.instances.count(value)  # 1.9 is none of them
        if count != 1:
            raise Unusable(_NO_SLICE, f"{count or 'no'} slices have the instance number {value:g}")
        index = volume.instances.index(int(value))
    else:
        if volume.geometry is None:
            raise Unusable(_NO_SLICE, "z, but the series has no positions. Use slice or file")
        heights = volume.geometry.origins[:, 2]
        index = int(np.abs(heights - value).argmin())
        if abs(heights[index] - value) > 0.501 * volume.geometry.depth:
            raise Unusable(_NO_SLICE, f"no slice at z {value:g} mm")
    if own is not None and own != index:
        text = f"{column} {cells[column]} is not the slice of {file}. Omit one of them"
        raise Unusable(_NO_SLICE, text)
    return index


def _pixels(cells: dict[str, str], volume: Volume, index: int) -> Floats:
    """Return (N, 2): the row's point, or the vertices of its box or polygon, in pixels."""
    unit = cells.get("unit") or _UNITS[0]
    if unit not in _UNITS:
        raise Unusable(_BAD_NUMBER, f"unit must be one of {', '.join(_UNITS)}")
    vertices = _vertices(cells, 0.5 if unit == "pixel" else 0.0)
    if unit == "pixel":
        return vertices
    if volume.spacing is None:
        raise Unusable(_BAD_NUMBER, "mm, but the pixel spacing is unknown. Give pixels")
    if unit == "patient":
        place = volume.geometry
        if place is None:
            text = "unit patient, but the series has no positions. Give pixels"
            raise Unusable(_BAD_NUMBER, text)
        # The plane of the slice leads from x and y to the position along its rows and columns.
        axes = np.column_stack([place.right[:2], place.down[:2]])
        shift = vertices - place.origins[index, :2]
        vertices = np.linalg.solve(axes, shift.T).T.astype(np.float64)
    return np.asarray(vertices / volume.spacing[::-1])


def _vertices(cells: dict[str, str], margin: float) -> Floats:
    """Return (N, 2), one for a point; a box extends by `margin` before its x and y."""
    if cells.get("points"):
        if beside := [name for name in _PLACE_COLUMNS if cells.get(name)]:
            text = f"points and {' and '.join(beside)} are both filled. Keep one"
            raise Unusable(_BAD_NUMBER, text)
        pairs = cells["points"].strip("; ").split(";")
        try:
            vertices = np.array([[float(x) for x in pair.split()] for pair in pairs])
        except ValueError:
            vertices = np.zeros((0, 0))
        if len(vertices) < 3 or vertices.shape[1:] != (2,):
            raise Unusable(_BAD_NUMBER, 'points must be three or more pairs as "x y; x y; x y"')
        if not np.isfinite(vertices).all():
            raise Unusable(_BAD_NUMBER, "points must be finite")
        return vertices
    x, y = _number(cells, "x"), _number(cells, "y")
    if not cells.get("width") and not cells.get("height"):
        return np.array([[x, y]])
    width, height = _number(cells, "width"), _number(cells, "height")
    if width <= 0 or height <= 0:
        raise Unusable(_BAD_NUMBER, "width and height must be greater than 0")
    left, top = x - margin, y - margin
    right, bottom = left + width, top + height
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _number(cells: dict[str, str], column: str) -> float:
    try:
        value = float(cells.get(column, ""))
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise Unusable(_BAD_NUMBER, f"{column} must be a number, not {cells.get(column, '')!r}")
    return value
