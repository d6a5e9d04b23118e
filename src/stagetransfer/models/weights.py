"""Weights from files: read under our names and input, then carried into a network by layer."""

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stagetransfer.errors import UserError
from stagetransfer.models.alexnet import GROUPED, AlexNet, form_of
from stagetransfer.models.caffe_weights import fold_input, read_caffemodel, read_npy
from stagetransfer.names import LAYERS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

DESCRIPTION = "stagetransfer"
"""The key in a .safetensors file's metadata under which `stagetransfer export` puts, as JSON, what
the tensors don't say: mean, std, classes, ..."""

_log = logging.getLogger(__name__)

_OURS = frozenset(f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias"))
_TORCHVISION = dict(
    zip(
        [f"features.{index}" for index in (0, 3, 6, 8, 10)]
        + [f"classifier.{index}" for index in (1, 4, 6)],
        LAYERS,
        strict=True,
    )
)
_CAFFE = {".caffemodel": read_caffemodel, ".npy": read_npy}
_PICKLED = (".pt", ".pth", ".ckpt")


def load_weights(
    source: str | Path,
    variant: str = "paper",
    *,
    groups: int | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> dict[str, Tensor]:
    """A state dict for `AlexNet(..., variant, groups=groups)`, named conv1.weight ... fc8.bias.

    `source` is the word "torchvision" (its ImageNet weights, from torchvision's cache or the net)
    or a file: `.caffemodel` or `.npy` of Caffe's AlexNet or CaffeNet; `.pt`, `.pth`, `.ckpt` or
    `.safetensors` with a state dict, bare or under "state_dict", our names bare or after "network."
    (Lightning) or torchvision's names. No code in a file is run.

    Caffe's weights are turned to our input, RGB (v / 255 - mean) / std, exactly; `mean` and `std`
    serve nothing else: torchvision's weights expect ImageNet's, a checkpoint those it was trained
    with. An exported file (`DESCRIPTION`) names its own, which must be these. Grouped weights are
    expanded if the network has no groups. Shapes are checked by `carry`; tensors of other names
    are left out and listed in the log.

    Raises UserError for a source that cannot be read, holds no layer of ours or cannot fit.
    """
    form = form_of(variant)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise UserError(f"mean={list(mean)}, std={list(std)}: need three each, std more than 0")
    if source == "torchvision":
        if not form.torchvision:
            raise UserError(f"weights=torchvision: do not fit variant {variant}; use torchvision")
        found = _from_torchvision()
    else:
        path = Path(source)
        if not path.is_file():
            raise UserError(f"{path}: no such file; give a weights file or the word torchvision")
        if path.suffix in _CAFFE and form.torchvision:
            raise UserError(f"{path}: Caffe's AlexNet; set the variant to paper, bvlc or caffenet")
        try:
            if path.suffix == ".safetensors":
                _check_input(path, mean, std)
            found = _read(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({_line(error)})") from error
    state = {name: found[name] for name in sorted(_OURS & found.keys())}
    if not state:
        raise UserError(
            f"{source}: no tensor of ours among {_some(found)}; expected names like conv1.weight"
        )
    if left_out := found.keys() - state.keys():
        _log.warning("%s: left out %d tensors: %s", source, len(left_out), _some(left_out))
    if Path(source).suffix in _CAFFE:
        _fold(state, source, mean, std)
    if (form.groups if groups is None else groups) == 1:
        _ungroup(state)
    return state


def expand_groups(weight: Tensor, groups: int) -> Tensor:
    """The ungrouped weight of the same convolution: block-diagonal, zero across groups.

    (out, in / groups, height, width) -> (out, in, height, width); the result is exact.
    """
    filters, width = weight.shape[:2]
    blocks = weight.new_zeros(groups, filters // groups, groups, width, *weight.shape[2:])
    for group, block in enumerate(weight.chunk(groups)):
        blocks[group, :, group] = block
    return blocks.reshape(filters, groups * width, *weight.shape[2:])


@torch.no_grad()
def carry(
    network: AlexNet, state: Mapping[str, Tensor], layers: Iterable[str] = LAYERS
) -> list[str]:
    """Copies the named layers' tensors from `state` into the network; returns their names.

    All are checked before any is copied. Raises UserError with a diff of names and shapes if a
    layer is missing in `state` or has another shape, or is no layer of AlexNet.
    """
    wanted = list(layers)
    if unknown := [layer for layer in wanted if layer not in LAYERS]:
        raise UserError(f"layers={unknown}: unknown; use some of {', '.join(LAYERS)}")
    own = {
        f"{layer}.{kind}": parameter
        for layer in wanted
        for kind, parameter in network.get_submodule(layer).named_parameters()
    }
    differences, hints = [], []
    for name, parameter in own.items():
        shape = tuple(parameter.shape)
        if name not in state:
            differences.append(f"- {name}: file nothing, network {shape}")
            hints.append("leave missing layers out of the carried layers")
        elif (other := tuple(state[name].shape)) != shape:
            differences.append(f"+- {name}: file {other}, network {shape}")
            hints.append(_hint(name, other, shape))
    if differences:
        cures = ", or ".join(dict.fromkeys(hints))
        raise UserError(f"weights do not fit: {'; '.join(differences)}; {cures}")
    for name, parameter in own.items():
        parameter.copy_(state[name])
    return list(own)


def _hint(name: str, file: tuple[int, ...], network: tuple[int, ...]) -> str:
    """What to set so that this tensor fits."""
    layer = name.split(".")[0]
    if layer == "fc8":
        return "set num_classes or leave fc8 out of the carried layers"
    if file[:1] != network[:1] or len(file) != len(network):
        return "set the variant the file was made for"
    if layer in GROUPED and file[1] < network[1] and network[1] % file[1] == 0:
        return f"set groups={network[1] // file[1]}"
    if layer in GROUPED and network[1] < file[1]:
        return "set groups=1"
    if layer == "fc6":
        return "set input_size to that of the file or leave fc6 out of the carried layers"
    return "set the variant the file was made for"


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix in _CAFFE:
        return _CAFFE[path.suffix](path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return _named(load_file(path))
        except SafetensorError as error:
            raise UserError(f"{path}: damaged, or no safetensors file ({_line(error)})") from error
    if path.suffix not in _PICKLED:
        legal = ", ".join([*_CAFFE, *_PICKLED, ".safetensors"])
        raise UserError(f"{path}: unknown kind of weights file; use one of {legal}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its damage leads to
        if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UserError(
                f"{path}: refused, its pickle asks for {asked[1]} and might run code; "
                "save a plain state dict"
            ) from error
        raise UserError(
            f"{path}: damaged, or no PyTorch checkpoint ({type(error).__name__}); make it again"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds one {type(content).__name__}, not a state dict")
    return _named(content)


def _check_input(path: Path, mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuses an exported file whose network was trained on input of another scale."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {}).get(DESCRIPTION, "{}"))
            theirs = [
                list(map(float, told.get(key, own)))
                for key, own in zip(("mean", "std"), (mean, std), strict=True)
            ]
    except SafetensorError:
        return  # `_read` says it
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: its description can't be read; export it again") from error
    if theirs != [list(mean), list(std)]:
        raise UserError(
            f"{path}: trained on input of mean={theirs[0]}, std={theirs[1]}; set model.mean and "
            "model.std to these"
        )


def _from_torchvision() -> dict[str, Tensor]:
    from torchvision.models import AlexNet_Weights

    weights = AlexNet_Weights.IMAGENET1K_V1
    try:
        return _named(
            weights.get_state_dict(
                progress=False, check_hash=True, map_location="cpu", weights_only=True
            )
        )
    except Exception as error:  # no net, no cache, a cut-off or foreign file in the cache
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise UserError(
            f"weights=torchvision: neither read from {place} nor fetched ({_line(error)}); "
            f"download {weights.url} elsewhere and put it there"
        ) from error


def _named(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict under our names, as far as they have one."""
    state = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            module, _, kind = str(name).removeprefix("network.").rpartition(".")
            state[f"{_TORCHVISION.get(module, module)}.{kind}"] = value
    return state


def _fold(
    state: dict[str, Tensor], source: str | Path, mean: Sequence[float], std: Sequence[float]
) -> None:
    if "conv1.weight" not in state:
        return
    weight, bias = state["conv1.weight"], state.get("conv1.bias")
    if bias is None or weight.dim() != 4 or weight.shape[1] != 3:
        raise UserError(
            f"{source}: conv1.weight {tuple(weight.shape)}, needs (filters, 3, height, width) "
            "and a bias"
        )
    state["conv1.weight"], state["conv1.bias"] = fold_input(weight, bias, mean, std)


def _ungroup(state: dict[str, Tensor]) -> None:
    """Expands the layers whose inputs are a fraction of the filters of the layer before."""
    for layer in GROUPED:
        before = state.get(f"{LAYERS[LAYERS.index(layer) - 1]}.weight")
        weight = state.get(f"{layer}.weight")
        if before is None or weight is None or weight.dim() != 4 or not weight.numel():
            continue
        groups, rest = divmod(len(before), weight.shape[1])
        if groups > 1 and not rest and len(weight) % groups == 0:
            state[f"{layer}.weight"] = expand_groups(weight, groups)


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - 8} more" if len(ordered) > 8 else ""
    return (", ".join(ordered[:8]) or "none") + more


def _line(error: Exception) -> str:
    """The first sentence of a message: torch's run over a page."""
    return re.split(r"(?<=\w)[.\n]\s|\n", str(error).strip())[0][:200]
