"""Files and folders that are complete or absent: after a crash or a kill, no half-written result.

with atomic_path(folder / "table.csv") as part:
    table.to_csv(part)
"""

import errno
import json
import os
import re
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from PIL import Image

from stagetransfer.errors import UserError, is_disk_fault, is_shown
from stagetransfer.litter import part_of, remove

if TYPE_CHECKING:
    import pandas as pd

MAX_JSON, MAX_YAML = 64 * 2**20, 2**20  # bytes; a confusion matrix of 1,000 classes has 20 MB
MAX_PIXELS = 80_000_000  # of an image or a slice, about 9,000 x 9,000


@dataclass(frozen=True)
class StoredImage:
    """The encoded content of an image file that lies within a larger file, read when needed."""

    name: str
    read_bytes: Callable[[], bytes]

    def __str__(self) -> str:
        return self.name


ImageSource = Path | StoredImage

# `open_image` has a limit of its own, below the one from which on Pillow warns.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file name beside `path`; leaving the block renames it to `path`.

    The file is flushed to disk before it is renamed. An error removes the temporary file and
    leaves an earlier `path` as it was. The folder is created if it is missing.
    """
    part = part_of(path)
    try:
        with located(path, part):
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
    finally:
        with suppress(OSError):  # the first error counts
            part.unlink(missing_ok=True)


@contextmanager
def _new_part(folder: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside `folder`, which is removed at the end of the block."""
    part = part_of(folder)
    try:
        with located(folder, part):
            remove(part)  # left by a killed process that had the same number
            part.mkdir()
            yield part
    finally:
        remove(part)


@contextmanager
def atomic_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a new temporary folder beside `folder`; leaving the block renames it to `folder`.

    An error removes the temporary folder and leaves an earlier `folder` as it was.

    Args:
        replace: whether to replace an earlier `folder`. Without, the caller has checked that there
            is none, and one that has appeared since is an `OSError`.
    """
    with _new_part(folder) as part:
        yield part
        if replace:
            replace_folder(part, folder)
        else:
            part.rename(folder)


@contextmanager
def filled_folder(folder: Path) -> Iterator[Path]:
    """Yield a new temporary folder; leaving the block moves its files into `folder`.

    `folder` may hold other files, which stay. An error leaves it as it was.
    """
    with _new_part(folder) as part:
        yield part
        for file in [one for one in part.rglob("*") if one.is_file()]:
            place = folder / file.relative_to(part)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)


def replace_folder(new: Path, folder: Path) -> None:
    """Rename `new` to `folder`. An earlier `folder` is removed once `new` has its place."""
    earlier = part_of(folder.with_name(f"{folder.name}.earlier"))
    if folder.exists():
        folder.rename(earlier)
    try:
        new.rename(folder)
    except OSError:
        if earlier.exists():
            earlier.rename(folder)
        raise
    remove(earlier)


@contextmanager
def located(path: Path, part: Path | None = None) -> Iterator[None]:
    """Give an error of the disk within the block the name of the file that could not be written.

    Libraries raise it without a name, with the name `part` of the temporary file, or as an error of
    another kind. The disk is then its context (looked for only while `part` is written), or full.
    """
    try:
        yield
    except Exception as error:
        first: BaseException | None = error
        while first is not None and not is_disk_fault(first):
            first = None if part is None or isinstance(first, UserError) else first.__context__
        if isinstance(first, OSError):
            name = str(first.filename2 or first.filename or "")
            if first is error and name and (part is None or not name.startswith(str(part))):
                raise
            raise OSError(first.errno, first.strerror, str(path)) from error
        if not isinstance(error, UserError) and _is_full(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def _is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < 2**16
    except OSError:
        return False


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically, see `json_text`."""
    write_text(path, json_text(content))


def json_text(content: Mapping[str, Any]) -> str:
    """Return JSON; NaN and infinity become null, because JSON has neither."""
    return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def read_json(path: Path, cure: str = "Restore or remove it.") -> dict[str, Any]:
    """Return the object in a JSON file; UserError, which ends with `cure`, if it holds none."""
    return _read_mapping(path, MAX_JSON, json.loads, cure)


def read_yaml(path: Path, cure: str = "Restore or remove it.") -> dict[str, Any]:
    """Return the mapping in a YAML file of plain values without aliases, as `read_json` does."""
    return _read_mapping(path, MAX_YAML, _plain_yaml, cure)


def _read_mapping(path: Path, limit: int, parse: Any, cure: str) -> dict[str, Any]:
    try:
        require_file(path)
        with path.open("rb") as file:
            text = file.read(limit + 1)
        if len(text) > limit:
            raise ValueError(f"it has more than {limit >> 20} MiB")
        content = parse(text.decode("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no keys")
    except RecursionError as error:
        raise UserError(f"{path}: cannot be read (it is nested too deeply). {cure}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"{path}: cannot be read ({why}). {cure}") from error
    return content


def _plain_yaml(text: str) -> Any:
    """Return the content of YAML without aliases: a few of them stand for billions of values."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C: six times as fast
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias, which no run writes")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > 100:
            raise RecursionError
    return yaml.load(text, loader)


def default_folder(outputs: Path, *names: str) -> Path:
    """Return the folder below `outputs` that a command writes to if it is given none.

    UserError if a link leads out of `outputs`, which may come from somebody else.
    """
    folder = outputs.joinpath(*names)
    for path in (folder, *folder.rglob("*")):
        if not path.resolve().is_relative_to(outputs.resolve()):
            raise UserError(f"{path}: a link out of {outputs}. Remove it, or give another --out.")
    return folder


def check_can_be_folder(path: str | Path, key: str) -> None:
    """Raise UserError, which begins with `key`, if no folder can have this path."""
    text, why = str(path), ""
    if not text.strip() or not is_shown(text):
        why = "it is empty or holds a control character"
    for part in (Path(path), *Path(path).absolute().parents):
        try:
            if stat.S_ISDIR(os.stat(part).st_mode):
                break
            why = why or f"{part} is a file, a pipe or a device"
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:  # a name of more than 255 bytes; a zero byte
            why = why or getattr(error, "strerror", None) or str(error)
    if why:
        raise UserError(f"{key} {text}: no folder can be made there ({why}). Give another folder.")


def check_is_new(folder: Path, name: str = "folder") -> None:
    """Raise UserError if something exists where a command would make its new folder."""
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder}: already exists. Give another {name}, or remove it.")


def require_file(path: Path) -> None:
    """Raise OSError if a path is there but no regular file: a pipe would never end."""
    if path.exists() and not path.is_file():
        raise OSError("it is a folder, a pipe or a device, not a regular file")


@contextmanager
def open_image(path: ImageSource) -> Iterator[Image.Image]:
    """Open an image whose pixels are decoded later; OSError if these would be too many."""
    if isinstance(path, Path):
        require_file(path)
    try:
        source = path if isinstance(path, Path) else BytesIO(path.read_bytes())
        with Image.open(source) as image:
            check_size(*image.size)
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise OSError(str(error)) from error


def check_size(width: int, height: int) -> None:
    """Raise OSError if an image or slice has more than `MAX_PIXELS` pixels."""
    if width * height > MAX_PIXELS:
        limit = f"{MAX_PIXELS // 10**6} million"
        raise OSError(f"{width} x {height} pixels, more than the limit of {limit}")


def csv_text(table: "pd.DataFrame", **options: Any) -> str:
    """Return a table as CSV in which no text is a formula to a spreadsheet; see `defused`."""
    safe = table.rename(index=defused, columns=defused).rename_axis(index=defused)
    safe = safe.apply(lambda column: column.map(defused) if column.dtype.kind == "O" else column)
    return str(safe.to_csv(**{"index": False, **options}))


def defused(cell: Any) -> Any:
    """Return a cell, with an apostrophe before a text that a spreadsheet would compute.

    These begin with = + - @ and are no number. `restored` undoes this, so a text that begins with
    apostrophes and one of these signs gets one apostrophe more.
    """
    if not isinstance(cell, str) or not re.match(r"'*[=+\-@]", cell):
        return cell
    return cell if re.fullmatch(r"[+-]?[\d.]*(e[+-]?\d+)?", cell) else f"'{cell}"


def restored(cell: str) -> str:
    """Return the text of a cell that `defused` has written."""
    return cell[1:] if re.match(r"'+[=+\-@]", cell) else cell


def _finite(value: Any) -> Any:
    if isinstance(value, float) and value - value != 0:
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
