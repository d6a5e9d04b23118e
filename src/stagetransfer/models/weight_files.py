"""Weights from files of Caffe, PyTorch and safetensors, under our names, copied into a network."""

import json
import logging
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stagetransfer.errors import UserError
from stagetransfer.models.alexnet import GROUPED, AlexNet, check_layers, variant_settings
from stagetransfer.models.caffe_weights import fold_input, read_caffemodel, read_npy
from stagetransfer.names import LAYERS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

METADATA_KEY = "stagetransfer"
"""Key in the metadata of an exported .safetensors file. Its value is a JSON object with what the
tensors do not say: mean, std, classes and so on."""

_log = logging.getLogger(__name__)

_OWN_NAMES = frozenset(f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias"))
_TORCHVISION = [f"features.{i}" for i in (0, 3, 6, 8, 10)] + [f"classifier.{i}" for i in (1, 4, 6)]
_LAYER_OF_TORCHVISION = dict(zip(_TORCHVISION, LAYERS, strict=True))
_CAFFE_READERS = {".caffemodel": read_caffemodel, ".npy": read_npy}
_PYTORCH = (".pt", ".pth", ".ckpt")


def load_weights(
    source: str | Path,
    variant: str = "paper",
    *,
    groups: int | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> dict[str, Tensor]:
    """Return a state dict for `AlexNet(..., variant, groups=groups)`: conv1.weight ... fc8.bias.

    No code in a file is run. Tensors with unknown names are left out, and the log lists them.
    Shapes are only checked by `copy_layers`. Grouped weights are expanded if the network has no
    groups.

    Args:
        source: "torchvision" (its ImageNet weights, from torchvision's cache or the internet) or a
            file: `.caffemodel` or `.npy` of Caffe's AlexNet or CaffeNet, or `.pt`, `.pth`, `.ckpt`
            or `.safetensors` with a state dict. The state dict may be under the key "state_dict",
            and its names may be ours, ours after "network." (Lightning) or torchvision's.
        mean, std: per channel of the network's input, RGB (v / 255 - mean) / std. Caffe's weights
            are converted to this input exactly. An exported file must state the same mean and
            std. All other weights expect the input that they were trained with.
    """
    settings = variant_settings(variant)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise UserError(
            f"model.mean={list(mean)}, model.std={list(std)}: both need three numbers, and those "
            "of std must be positive. Correct them."
        )
    path = Path(source)
    if source == "torchvision":
        if not settings.torchvision:
            raise UserError(
                f"weights=torchvision: do not fit variant {variant}. Use model=torchvision."
            )
        found = _download_torchvision()
    else:
        if not path.is_file():
            raise UserError(f"{path}: no such file. Give a weights file or the word torchvision.")
        if path.suffix in _CAFFE_READERS and settings.torchvision:
            raise UserError(
                f"{path}: has Caffe's AlexNet, not torchvision's. Set the variant to paper, bvlc "
                "or caffenet."
            )
        try:
            found = _read(path, mean, std)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({_first_sentence(error)}).") from error
    state = {name: found[name] for name in sorted(_OWN_NAMES & found.keys())}
    if not state:
        raise UserError(
            f"{source}: has no tensor with a known name, only {_shortened(found)}. Rename its "
            "tensors to conv1.weight and so on."
        )
    if left_out := found.keys() - state.keys():
        _log.warning("%s: left out %d tensors: %s", source, len(left_out), _shortened(left_out))
    if (settings.groups if groups is None else groups) == 1:
        _expand_all_groups(state)
    return state


@torch.no_grad()
def copy_layers(
    network: AlexNet, state: Mapping[str, Tensor], layers: Iterable[str] = LAYERS
) -> list[str]:
    """Copy the named layers' tensors from `state` into `network` and return the tensors' names.

    Either all of them are copied or none. The UserError for tensors that are missing or have
    another shape lists all differences and what to set.
    """
    own = {
        f"{layer}.{kind}": parameter
        for layer in check_layers(layers)
        for kind, parameter in network.get_submodule(layer).named_parameters()
    }
    differences, advice = [], []
    for name, parameter in own.items():
        shape = tuple(parameter.shape)
        if name not in state:
            differences.append(f"- {name}: file nothing, network {shape}")
            advice.append("Leave missing layers out of the layers that are carried over")
        elif (other := tuple(state[name].shape)) != shape:
            differences.append(f"+- {name}: file {other}, network {shape}")
            advice.append(_advice(name, other, shape))
    if differences:
        what_to_do = ". Or: ".join(dict.fromkeys(advice))
        raise UserError(f"weights: do not fit the network: {'; '.join(differences)}. {what_to_do}.")
    for name, parameter in own.items():
        parameter.copy_(state[name])
    return list(own)


def _advice(name: str, file: tuple[int, ...], network: tuple[int, ...]) -> str:
    layer = name.split(".")[0]
    leave_out = f"or leave {layer} out of the layers that are carried over"
    if layer == "fc8":
        return f"Set num_classes, {leave_out}"
    if file[:1] == network[:1] and len(file) == len(network):
        if layer in GROUPED and file[1] < network[1] and network[1] % file[1] == 0:
            return f"Set groups={network[1] // file[1]}"
        if layer in GROUPED and network[1] < file[1]:
            return "Set groups=1"
        if layer == "fc6":
            return f"Set input_size to that of the file, {leave_out}"
    return "Set the variant that the file was made for"


def expand_groups(weight: Tensor, groups: int) -> Tensor:
    """Return the weight of the same convolution without groups: block-diagonal, else zero.

    (out, in / groups, height, width) becomes (out, in, height, width). The result is exact.
    """
    groups_last = weight.reshape(groups, -1, *weight.shape[1:]).movedim(0, -1)
    blocks = torch.diag_embed(groups_last, dim1=0, dim2=2)
    return blocks.reshape(len(weight), -1, *weight.shape[2:])


def _expand_all_groups(state: dict[str, Tensor]) -> None:
    """Expand the layers whose input is a fraction of the filters of the layer before."""
    for layer in GROUPED:
        before = state.get(f"{LAYERS[LAYERS.index(layer) - 1]}.weight")
        weight = state.get(f"{layer}.weight")
        if before is None or weight is None or weight.dim() != 4 or not weight.numel():
            continue
        groups, rest = divmod(len(before), weight.shape[1])
        if groups > 1 and not rest and len(weight) % groups == 0:
            state[f"{layer}.weight"] = expand_groups(weight, groups)


def _read(path: Path, mean: Sequence[float], std: Sequence[float]) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return _read_safetensors(path, mean, std)
    if path.suffix in _PYTORCH:
        return _read_pytorch(path)
    if path.suffix not in _CAFFE_READERS:
        suffixes = ", ".join([*_CAFFE_READERS, *_PYTORCH, ".safetensors"])
        raise UserError(f"{path}: unknown kind of weights file. Use one of {suffixes}.")
    state = _CAFFE_READERS[path.suffix](path)
    if "conv1.weight" in state:
        weight, bias = state["conv1.weight"], state.get("conv1.bias")
        if bias is None or weight.dim() != 4 or weight.shape[1] != 3:
            raise UserError(
                f"{path}: conv1.weight has the shape {tuple(weight.shape)}, but must have the "
                "shape (filters, 3, height, width) and come with a bias. Use a file of AlexNet or "
                "CaffeNet."
            )
        state["conv1.weight"], state["conv1.bias"] = fold_input(weight, bias, mean, std)
    return state


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
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: holds one {type(content).__name__}, not a state dict. Save a state dict."
        )
    return _renamed(content)


def _read_safetensors(path: Path, mean: Sequence[float], std: Sequence[float]) -> dict[str, Tensor]:
    """Read an exported file, which must state the same mean and std, or any other."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise UserError(
            f"{path}: damaged, or not a safetensors file ({_first_sentence(error)}). "
            "Save or download it again."
        ) from error
    own = {"mean": list(mean), "std": list(std)}
    try:
        stated = json.loads(metadata.get(METADATA_KEY, "{}"))
        theirs = {key: list(map(float, stated.get(key, value))) for key, value in own.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: its description can't be read. Export it again.") from error
    if theirs != own:
        raise UserError(
            f"{path}: was trained on input of mean={theirs['mean']}, std={theirs['std']}. "
            "Set model.mean and model.std to these."
        )
    return _renamed(tensors)


def _download_torchvision() -> dict[str, Tensor]:
    from torchvision.models import AlexNet_Weights

    weights = AlexNet_Weights.IMAGENET1K_V1
    try:
        content = weights.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except Exception as error:  # no connection, no cache, or a damaged file in the cache
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise UserError(
            f"weights=torchvision: could neither be read from {place} nor downloaded "
            f"({_first_sentence(error)}). Download {weights.url} elsewhere and put it there."
        ) from error
    return _renamed(content)


def _renamed(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a state dict, under our names where they have one."""
    state = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            module, _, kind = str(name).removeprefix("network.").rpartition(".")
            state[f"{_LAYER_OF_TORCHVISION.get(module, module)}.{kind}"] = value
    return state


def _shortened(names: Iterable[str]) -> str:
    first, rest = sorted(names)[:8], sorted(names)[8:]
    return (", ".join(first) or "none") + (f" and {len(rest)} more" if rest else "")


def _first_sentence(error: Exception) -> str:
    """Return the start of an error message, because PyTorch's can fill a page."""
    return re.split(r"(?<=\w)[.\n]\s|\n", str(error).strip())[0][:200]
