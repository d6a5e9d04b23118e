"""The tensors in a file of PyTorch or safetensors, read without running code of the file."""

import json
import logging
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stagetransfer.errors import UserError, first_line
from stagetransfer.models.backbone import InputSpec

log = logging.getLogger(__name__)

METADATA_KEY = "stagetransfer"
"""Key in the metadata of an exported .safetensors file. Its value is a JSON object with what the
tensors do not say: mean, std, classes and so on."""

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pth.tar", ".safetensors")
# Under which keys a file may hold its state dict, and what may precede the names in it.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "state_dict_ema", "model_ema")
_PREFIXES = ("network.net.", "network.", "module.", "model.", "net.", "backbone.", "_orig_mod.")


def has_tensors(path: Path) -> bool:
    """Whether the name of a file ends as one of `SUFFIXES`, in any case."""
    return path.name.lower().endswith(SUFFIXES)


def read_tensors(path: Path, own: InputSpec) -> dict[str, Tensor]:
    """Return the named tensors in a file, for a network whose input is `own`.

    UserError if the file is damaged, holds no tensors, holds numbers that are not finite, or states
    another input, which files of other tools do not.
    """
    if path.suffix.lower() == ".safetensors":
        tensors, metadata = _read_safetensors(path)
    else:
        tensors, metadata = _read_pytorch(path)
    check_finite(path, tensors)
    check_input(path, _stated_input(path, metadata, own), own)
    return tensors


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise UserError if a tensor has a value that is infinite or not a number."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(
                f"{path}: {name} has values that are not finite numbers. Use another file, because "
                "this network diverged in its training."
            )


def log_unmatched(theirs: Collection[str], ours: Collection[str]) -> None:
    """List the tensors that only the weights or only the network have, if there are some."""
    for sign, names, where in (("+", theirs, "weights"), ("-", ours, "network")):
        if names:
            text = "  %s %d tensors only in the %s: %s"
            log.warning(text, sign, len(names), where, shortened(names))


def _stated_input(path: Path, metadata: Mapping[str, str], own: InputSpec) -> InputSpec:
    """Return the input that a file of ours states, with `own` for what it does not state."""
    try:
        stated = json.loads(metadata.get(METADATA_KEY, "{}"))
        mean, std = (tuple(map(float, stated.get(k, getattr(own, k)))) for k in ("mean", "std"))
        return InputSpec(int(stated.get("input_size", own.size)), mean, std)  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: its description can't be read. Export it again.") from error


def check_input(source: object, expected: InputSpec, own: InputSpec) -> None:
    """Refuse weights for another normalisation; say so if they are for another size of images.

    An `own.size` of 0 is unknown, and not compared.
    The mean cannot be folded into a first convolution that pads its input with zeros.
    """
    if (expected.mean, expected.std) != (own.mean, own.std):
        raise UserError(
            f"{source}: these weights expect input of mean={list(expected.mean)}, "
            f"std={list(expected.std)}. Set model.mean and model.std to these."
        )
    if own.size and expected.size != own.size:
        text = "  %s: made for images of %d pixels, used for %d (model.input_size)"
        log.info(text, source, expected.size, own.size)


def without_prefix(tensors: Mapping[str, Tensor], known: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors without what precedes the names, such as "module.": several, if needed.

    What is removed is what makes the most names known.
    """
    wanted, prefixes = {*known}, [""]
    for prefix in prefixes:  # which grow meanwhile
        longer = {prefix + more for more in _PREFIXES}.difference(prefixes)
        prefixes += sorted(one for one in longer if any(name.startswith(one) for name in tensors))
    best = max(prefixes, key=lambda one: len(wanted & {name.removeprefix(one) for name in tensors}))
    return {name.removeprefix(best): tensor for name, tensor in tensors.items()}


def _read_pytorch(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors, and of a checkpoint of ours the network's settings as metadata."""
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
    stated: Any = content.get("hyper_parameters") if isinstance(content, dict) else None
    stated = stated.get("model") if isinstance(stated, dict) else None
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: holds one {type(content).__name__}, not a state dict. Save a state dict."
        )
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    ours = isinstance(stated, dict) and {"mean", "std"} <= stated.keys()
    return tensors, {METADATA_KEY: json.dumps(stated, default=str)} if ours else {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}).") from error
    except SafetensorError as error:
        raise UserError(
            f"{path}: damaged, or not a safetensors file ({first_line(error)}). "
            "Save or download it again."
        ) from error


def shortened(names: Iterable[str]) -> str:
    """Return the first names in a list, and how many there are more."""
    first, rest = sorted(names)[:8], sorted(names)[8:]
    return (", ".join(first) or "none") + (f" and {len(rest)} more" if rest else "")
