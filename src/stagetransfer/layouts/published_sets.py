"""Published sets: CUReT, DTD and KTH-TIPS (textures), and DLD (Suzuki et al. 2018), lung patterns.

DLD, diffuse lung disease, has seven classes of HRCT pattern (arXiv 1810.06282).
"""

import re
from pathlib import Path, PurePosixPath

from stagetransfer.errors import UserError
from stagetransfer.layouts.csv_table import read_csv
from stagetransfer.layouts.folder_walk import SPLIT_NAMES, class_folders, entries
from stagetransfer.layouts.folders import find_classes, read_folder
from stagetransfer.layouts.rows import Limit, class_rows, to_samples
from stagetransfer.layouts.samples import Samples

_CURET_CLASSES = 61
_KTH_FOLDERS = ("KTH_TIPS", "KTH-TIPS2-a", "KTH-TIPS2-b")  # what the archives unpack into


def read_curet(
    root: Path, *, partial: bool = False, max_classes: Limit = None, max_per_class: Limit = None
) -> Samples:
    """Read the cropped CUReT of Oxford: root/sample01/01-001.png ...; `partial`: not all 61."""
    folders = [name for name in entries(root)[0] if re.fullmatch(r"sample\d\d", name.lower())]
    if len(folders) != _CURET_CLASSES and not (partial and folders):
        raise UserError(
            f"{root}: {len(folders)} folders sampleNN, CUReT has {_CURET_CLASSES}. Give the folder "
            "that has them all, or options.partial=true for a part of the set."
        )
    names, rows = class_rows(root, dict.fromkeys(folders), None, max_classes)
    return to_samples(root, rows, names, max_per_class)


def read_dtd(
    root: Path, *, fold: int = 1, max_classes: Limit = None, max_per_class: Limit = None
) -> Samples:
    """Read Describable Textures: images/<class>/*.jpg and labels/{train,val,test}<fold>.txt.

    There are folds 1 to 10. Without labels/ there is no official split; without images/ the class
    folders are in `root`.
    """
    has_lists = "labels" in entries(root)[0]
    base = "images/" if (root / "images").is_dir() else ""
    found = [f"{base}{name}" for name in class_folders(root / base) if base or name != "labels"]
    names, rows = class_rows(root, dict.fromkeys(found), None, max_classes)
    if has_lists:
        splits = _dtd_lists(root / "labels", base, fold)
        for row in rows:
            if row.id not in splits:
                raise UserError(f"{root / row.id}: in none of the lists labels/*{fold}.txt")
        found_ids = {row.id for row in rows}
        for id in splits:
            if id not in found_ids and PurePosixPath(id).parent.name in names:
                raise UserError(f"{root / id}: in labels/*{fold}.txt, but there is no such file")
        rows = [row._replace(split=splits[row.id]) for row in rows]
    return to_samples(root, rows, names, max_per_class)


def _dtd_lists(folder: Path, base: str, fold: int) -> dict[str, str]:
    """Return the split of each id in the three lists of a fold."""
    splits: dict[str, str] = {}
    for name in ("train", "val", "test"):
        path = folder / f"{name}{fold}.txt"
        if not path.is_file():
            raise UserError(f"{path}: no such file; options.fold must be 1 to 10")
        try:
            lines = path.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read ({error}). Restore the list.") from error
        for line in lines:
            split = splits.setdefault(f"{base}{line}", SPLIT_NAMES[name])
            if split != SPLIT_NAMES[name]:
                raise UserError(f"{path}: {line} is in the {split} list already")
    return splits


def read_kth_tips(root: Path, *, max_classes: Limit = None, max_per_class: Limit = None) -> Samples:
    """Read KTH-TIPS: root/<class>/*.png, or KTH-TIPS2: root/<class>/sample_{a,b,c,d}/*.png.

    `root` may also be the folder into which the archive was unpacked. In KTH-TIPS2 a group is one
    physical sample (class/sample); KTH-TIPS has one sample per class, and therefore no groups.
    """
    base = next((f"{name}/" for name in entries(root)[0] if name in _KTH_FOLDERS), "")
    found = dict.fromkeys(f"{base}{name}" for name in class_folders(root / base))
    names, rows = class_rows(root, found, None, max_classes)
    samples = [re.fullmatch(rf"{re.escape(base)}(.+/sample_\w)/[^/]+", row.id) for row in rows]
    if any(samples):
        for i, (row, sample) in enumerate(zip(rows, samples, strict=True)):
            if sample is None:
                raise UserError(
                    f"{root / row.id}: not in a folder sample_a to sample_d, as other images are"
                )
            rows[i] = row._replace(group=sample[1])
    return to_samples(root, rows, names, max_per_class)


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

    The images are in a table (see `read_csv`; its column `split` has the official split), by
    default root/labels.csv; without one, in folders CON ... NOR, also below train/ and test/.
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
