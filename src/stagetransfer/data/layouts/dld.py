"""Diffuse lung disease: seven classes of HRCT pattern (Suzuki et al. 2018, arXiv 1810.06282)."""

from pathlib import Path

from stagetransfer.data.layouts.csv_table import read_csv
from stagetransfer.data.layouts.folders import find_classes, read_folder
from stagetransfer.data.layouts.rows import Limit
from stagetransfer.data.samples import Samples
from stagetransfer.errors import UserError

DLD_CLASSES = ("CON", "GGO", "HCM", "RET", "EMP", "NOD", "NOR")
_TABLE = "labels.csv"


def read_dld(
    root: Path,
    *,
    table: str | None = None,
    groups: str | None = None,
    splits: bool | None = None,
    max_classes: Limit = None,
    max_per_class: Limit = None,
) -> Samples:
    """Read diffuse lung disease: the classes CON, GGO, HCM, RET, EMP, NOD, NOR in this order.

    The images are in a table (see `read_csv`; its column `split` has the official split), or in
    folders CON ... NOR (see `read_folder`; the official split as train/ and test/). `table` is
    root/labels.csv by default, or the folders if there is none.
    """
    limits = {"max_classes": max_classes, "max_per_class": max_per_class}
    if table is not None or (root / _TABLE).is_file():
        for name, value, column in (("groups", groups, "patient"), ("splits", splits, "split")):
            if value is not None:
                raise UserError(
                    f"options.{name}={value!r} is for folders; in {root / (table or _TABLE)} the "
                    f"column {column} names the {name}"
                )
        return read_csv(root, table=table or _TABLE, classes=DLD_CLASSES, **limits)
    for folder in find_classes(root, splits):
        if folder.rpartition("/")[2] not in DLD_CLASSES:
            raise UserError(f"{root / folder}: unknown class; known are {', '.join(DLD_CLASSES)}")
    return read_folder(root, groups=groups, splits=splits, classes=DLD_CLASSES, **limits)
