"""What an input holds: one row per series, and what a CT of it is like."""

from collections.abc import Sequence

import numpy as np

from stagetransfer.ct.volume import Volume


def describe(volumes: Sequence[Volume]) -> list[list[str]]:
    """Return a table of the series: a header, one row per series, and the totals.

    The columns are the series, the number of its patient, its slices, their size and pixels (row,
    column) in mm, the intervals between slices in mm, and `Geometry.orientation`.
    """
    header = ["series", "patient", "slices", "size", "pixel mm", "interval mm", "orientation"]
    patients = {name: n for n, name in enumerate(sorted({one.patient for one in volumes}), 1)}
    rows = [
        [
            one.where,
            f"{patients[one.patient]}",
            f"{len(one)}",
            "{} x {}".format(*one.shape),
            "unknown" if one.spacing is None else "{:.4g} x {:.4g}".format(*one.spacing),
            _intervals(one),
            "unknown" if one.geometry is None else one.geometry.orientation,
        ]
        for one in volumes
    ]
    slices = sum(map(len, volumes))
    return [header, *rows, [f"total: {len(volumes)}", f"{len(patients)}", f"{slices}", *[""] * 4]]


def _intervals(volume: Volume) -> str:
    """Return the intervals between slices, the smallest and the largest if they vary by 1 %."""
    if volume.geometry is None or len(volume) < 2:
        return "unknown"
    gaps = np.diff(volume.geometry.heights)
    low, high = f"{gaps.min():.4g}", f"{gaps.max():.4g}"
    return low if gaps.max() <= 1.01 * gaps.min() else f"{low} to {high}"
