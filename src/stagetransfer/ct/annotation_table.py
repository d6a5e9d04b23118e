"""Annotations as a CSV: a row a point, a box or a polygon.

    series,slice,x,y,label              a point: the middle of one patch
    series,slice,x,y,width,height,label a box: x, y its upper left pixel, sizes in pixels
    series,slice,points,label           a polygon: points as "x y; x y; x y"

`series` is a series' UID, number or folder; instead of it, `file` may name a file below the input.
`patient` may narrow either. The slice is one of `slice` (from 0, the lowest first), `instance`
(DICOM's InstanceNumber) or `z` (mm); a `file` of one slice needs none of them. `split` (train,
validation, test) is passed on. Cells of width, height and points may be empty.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stagetransfer.ct.problems import Problems
from stagetransfer.ct.regions import Labels, Outline, Point, Region, read_table
from stagetransfer.ct.volume import Volume
from stagetransfer.errors import UserError

_SPLITS = ("train", "validation", "test")
_SLICES = ("slice", "instance", "z")


class _Bad(Exception):
    """One row's fault: the kind that is counted, and the line that tells it."""


class TableAnnotations:
    """A CSV's rows, each with its series and slice; see the module for the columns.

    Args:
        path: the table.
        volumes: the series that its rows may name.
        labels: renames or leaves out labels.
        problems: takes the rows that can't be used.

    Raises:
        UserError: the file isn't such a table.
    """

    def __init__(
        self, path: Path, volumes: Sequence[Volume], labels: Labels, problems: Problems
    ) -> None:
        rows = read_table(path, ["label"])
        if not rows:
            raise UserError(f"{path}: no rows; give one for each annotation")
        columns = rows[0][1]
        if "points" not in columns and not {"x", "y"} <= columns.keys():
            raise UserError(
                f"{path}: no columns x and y, nor points; there are {', '.join(columns)}"
            )
        if ("width" in columns) != ("height" in columns):
            raise UserError(f"{path}: width without height or height without width; give both")
        chosen = [name for name in _SLICES if name in columns]
        if len(chosen) > 1:
            raise UserError(f"{path}: columns {' and '.join(chosen)} both name the slice; keep one")
        self._volumes = volumes
        self._labels = labels
        self._named: defaultdict[str, set[int]] = defaultdict(set)
        for number, volume in enumerate(volumes):
            for name in (*volume.names, *volume.files):
                self._named[name].add(number)
        self._regions: defaultdict[int, list[Region]] = defaultdict(list)
        for line, cells in rows:
            where = f"{path} line {line}"
            try:
                self._add(where, cells)
            except _Bad as bad:
                problems.add(bad.args[0], where, bad.args[1])

    def of(self, volume: int) -> list[Region]:
        """The regions of a series, by its number in the list of series."""
        return self._regions[volume]

    def _add(self, where: str, cells: dict[str, str]) -> None:
        label = self._labels(cells["label"])
        if label == "" and cells["label"]:
            return
        if not label:
            raise _Bad("annotations without a known label", f"no name for {cells['label']!r}")
        split = cells.get("split") or None
        if "split" in cells and split not in _SPLITS:
            raise _Bad(
                "annotations of no known split", f"split must be one of {', '.join(_SPLITS)}"
            )
        number = self._volume(cells)
        volume = self._volumes[number]
        index = _slice(volume, cells)
        shape = _shape(cells)
        corners = np.array([[shape.x, shape.y]]) if isinstance(shape, Point) else shape.vertices
        height, width = volume.shape
        if (corners < -0.5).any() or (corners > (width - 0.5, height - 0.5)).any():
            raise _Bad(
                "annotations outside the image",
                f"reaches outside the slice of {width} x {height} pixels",
            )
        self._regions[number].append(Region(index, label, shape, where, split))

    def _volume(self, cells: dict[str, str]) -> int:
        file, series, patient = (_name(cells.get(x, "")) for x in ("file", "series", "patient"))
        every = set(range(len(self._volumes)))
        fits = self._named.get(file, set()) if file else every
        found = [
            number
            for number in sorted(fits & (self._named.get(series, set()) if series else every))
            if (not series or series in self._volumes[number].names)
            and (not patient or patient == self._volumes[number].patient)
        ]
        named = " ".join(
            f"{key} {value}"
            for key, value in (("file", file), ("series", series), ("patient", patient))
            if value
        )
        if not found:
            raise _Bad("annotations of no series", f"no series is {named or 'there'}")
        if len(found) > 1:
            first, second = (self._volumes[number].where for number in found[:2])
            raise _Bad(
                "annotations of several series",
                f"{named or 'the row'} fits {len(found)} series, as {first} and {second}; name one "
                "by file, folder, UID or patient",
            )
        return found[0]


def _name(cell: str) -> str:
    """A path as it is written here: forward slashes, none at the end."""
    return posixpath.normpath(cell.replace("\\", "/")) if cell else ""


def _slice(volume: Volume, cells: dict[str, str]) -> int:
    column = next((name for name in _SLICES if cells.get(name)), None)
    file = _name(cells.get("file", ""))
    if column is None:
        if volume.files.count(file) == 1:
            return volume.files.index(file)
        if len(volume) == 1:
            return 0
        raise _Bad("annotations of no slice", "names no slice; fill slice, instance or z")
    kind, value = "annotations of no slice", _number(cells, column)
    if column == "slice":
        if not volume.whole:
            text = "slice numbers are uncertain where slices are missing; use instance, z or file"
            raise _Bad("annotations of an uncertain slice", text)
        if value not in range(len(volume)):
            raise _Bad(kind, f"slice {value:g} is none of 0 to {len(volume) - 1}")
        index = int(value)
    elif column == "instance":
        if volume.instances.count(int(value)) != 1:
            times = volume.instances.count(int(value))
            raise _Bad(kind, f"{times or 'no'} slices have the instance number {value:g}")
        index = volume.instances.index(int(value))
    else:
        if volume.geometry is None:
            raise _Bad(kind, "z, but this series has no positions; use slice or file")
        heights = volume.geometry.corners[:, 2]
        index = int(np.abs(heights - value).argmin())
        reach = volume.geometry.gap if np.isfinite(volume.geometry.gap) else 2.0
        if abs(heights[index] - value) > 0.501 * reach:
            raise _Bad(kind, f"no slice at z {value:g} mm")
    if volume.files.count(file) == 1 and volume.files.index(file) != index:
        raise _Bad(kind, f"{column} {value:g} is not the slice of {file}; leave one out")
    return index


def _shape(cells: dict[str, str]) -> Point | Outline:
    if cells.get("points"):
        try:
            vertices = np.array(
                [
                    [float(x) for x in pair.split()]
                    for pair in cells["points"].strip("; ").split(";")
                ]
            )
        except ValueError:
            vertices = np.zeros((0, 0))
        if vertices.ndim != 2 or vertices.shape[0] < 3 or vertices.shape[1] != 2:
            text = 'points must be three or more pairs as "x y; x y; x y"'
            raise _Bad("annotations with a bad number", text)
        if not np.isfinite(vertices).all():
            raise _Bad("annotations with a bad number", "points must be finite")
        return Outline(vertices)
    x, y = _number(cells, "x"), _number(cells, "y")
    if not cells.get("width") and not cells.get("height"):
        return Point(x, y)
    width, height = _number(cells, "width"), _number(cells, "height")
    if width <= 0 or height <= 0:
        raise _Bad("annotations with a bad number", "width and height must be above 0")
    left, top = x - 0.5, y - 0.5  # the outer edges of the first pixel
    right, bottom = left + width, top + height
    return Outline(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]))


def _number(cells: dict[str, str], column: str) -> float:
    try:
        value = float(cells.get(column, ""))
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        text = f"{column} must be a number, not {cells.get(column, '')!r}"
        raise _Bad("annotations with a bad number", text)
    return value
