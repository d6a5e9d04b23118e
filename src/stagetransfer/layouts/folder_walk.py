"""Class folders and images of a folder tree, without the files of the operating system."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from stagetransfer.errors import UserError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"),
    ".gif",
)
# The names of splits that are in use, in lower case.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "validate", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SYSTEM = frozenset(["thumbs.db", "desktop.ini", "__macosx"])  # and whatever begins with a dot
_visits: ContextVar[list[Path] | None] = ContextVar("_visits", default=None)


@contextmanager
def visited() -> Iterator[list[Path]]:
    """Collect the folders that `entries` reads within the block."""
    folders: list[Path] = []
    token = _visits.set(folders)
    try:
        yield folders
    finally:
        _visits.reset(token)


def is_image(name: str) -> bool:
    """Return whether the name has the suffix of an image, in upper or lower case."""
    return name.lower().endswith(SUFFIXES)


def entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders and files in `folder`, sorted, without system files."""
    if (visits := _visits.get()) is not None:
        visits.append(folder)
    is_folder: dict[str, bool] = {}
    try:
        with os.scandir(folder) as found:
            for entry in found:
                name = entry.name
                if name.startswith(".") or name.lower() in _SYSTEM:
                    continue
                is_folder[name] = entry.is_dir()
                if not is_folder[name] and is_image(name) and not entry.is_file():
                    what = "a pipe, a device or a broken link, not a file; remove it"
                    raise UserError(f"{folder / name}: {what}")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{folder}: no such folder; give the folder that holds the images"
        ) from error
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be read ({error.strerror}). Check its permissions."
        ) from error
    names = sorted(is_folder)
    return [x for x in names if is_folder[x]], [x for x in names if not is_folder[x]]


def class_folders(folder: Path) -> list[str]:
    """Return the names of the class folders in `folder`, sorted; no image may be beside them."""
    folders, files = entries(folder)
    loose = next(filter(is_image, files), None)
    if not folders and loose:
        raise UserError(
            f"{folder}: it has images, but no class folders. Give the folder above it as the "
            "root, which has one folder per class."
        )
    if not folders:
        raise UserError(f"{folder}: no class folders; expected {folder / '<class>' / 'image.png'}")
    if loose:
        raise UserError(f"{folder / loose}: an image beside the class folders; move it into one")
    if len(folders) == 1:
        inner, files = entries(folder / folders[0])
        if inner and not any(map(is_image, files)):
            raise UserError(
                f"{folder}: its only folder is {folders[0]}, which has {listed(inner)}. "
                f"Give {folder / folders[0]} as the root."
            )
    return folders


def class_images(folder: Path) -> list[str]:
    """Return the images at any depth below a class folder, as relative paths with "/".

    UserError if there is none, or a file that is no image.
    """
    if found := _images(folder):
        return found
    raise UserError(f"{folder}: class {folder.name} has no image; add some or remove the folder")


def listed(names: list[str], most: int = 10) -> str:
    """Return the names with commas, shortened for one line of a message."""
    more = [f"... ({len(names)} in all)"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


def _images(folder: Path) -> list[str]:
    folders, files = entries(folder)
    for name in files:
        if not is_image(name):
            raise UserError(
                f"{folder / name}: not an image ({', '.join(SUFFIXES)}); move it out of the class "
                "folder"
            )
    for sub in folders:
        files += [f"{sub}/{name}" for name in _images(folder / sub)]
    return files
