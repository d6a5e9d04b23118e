"""The tensors in a file of PyTorch or safetensors, read without running code of the file."""

import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from stagetransfer.errors import UserError

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pth.tar", ".safetensors")
# Under which keys a file may hold its state dict, and what may precede the names in it.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "state_dict_ema", "model_ema")
_PREFIXES = ("network.net.", "network.", "module.", "model.", "net.", "backbone.", "_orig_mod.")


def has_tensors(path: Path) -> bool:
    """Whether the name of a file ends as one of `SUFFIXES`, in any case."""
    return path.name.lower().endswith(SUFFIXES)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the named tensors in a file, and the metadata of a safetensors file.

    Raises:
        UserError: the file is damaged, holds no tensors, or holds numbers that are not finite.
    """
    if path.suffix.lower() == ".safetensors":
        tensors, metadata = _read_safetensors(path)
    else:
        tensors, metadata = _read_pytorch(path), {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(
                f"{path}: {name} has values that are not finite numbers. Use another file, because "
                "this network diverged in its training."
            )
    return tensors, metadata


def without_prefix(tensors: Mapping[str, Tensor], known: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors without what precedes the names, such as "module.": several, if needed.

    What is removed is what makes the most names known.
    """
    best = dict(tensors)
    pending, seen = [""], {""}
    while pending:
        prefix = pending.pop()
        renamed = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        if len(renamed.keys() & {*known}) > len(best.keys() & {*known}):
            best = renamed
        for more in _PREFIXES:
            longer = prefix + more
            if longer not in seen and any(name.startswith(longer) for name in tensors):
                seen.add(longer)
                pending.append(longer)
    return best


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # PyTorch stores tensors without compression
                if sum(one.file_size for one in archive.infolist()) > path.stat().st_size:
                    raise ValueError("compressed")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises all kinds of errors
        if blocked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UserError(
                f"{path}: refused, because its pickle asks for {blocked[1]} and might run code. "
                "Save a plain state dict."
            ) from error
        raise UserError(
            f"{path}: damaged, or not a PyTorch checkpoint ({type(error).__name__}). "
            "Save or download it again."
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: holds one {type(content).__name__}, not a state dict. Save a state dict."
        )
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except SafetensorError as error:
        raise UserError(
            f"{path}: damaged, or not a safetensors file ({first_sentence(error)}). "
            "Save or download it again."
        ) from error


def first_sentence(error: Exception) -> str:
    """Return the start of an error message, because PyTorch's can fill a page."""
    return re.split(r"(?<=\w)[.\n]\s|\n", str(error).strip())[0][:200]
