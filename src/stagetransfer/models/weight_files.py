"""AlexNet's weights from files of Caffe, PyTorch and safetensors, under our names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stagetransfer.errors import UserError, first_line
from stagetransfer.models.alexnet import GROUPED, LAYERS, variant_settings
from stagetransfer.models.backbone import InputSpec
from stagetransfer.models.caffe_weights import fold_input, read_caffemodel, read_npy
from stagetransfer.models.tensor_files import (
    SUFFIXES,
    check_finite,
    check_input,
    has_tensors,
    log_unmatched,
    read_tensors,
    shortened,
    without_prefix,
)

_OWN_NAMES = frozenset(f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias"))
_TORCHVISION = [f"features.{i}" for i in (0, 3, 6, 8, 10)] + [f"classifier.{i}" for i in (1, 4, 6)]
_LAYER_OF_TORCHVISION = dict(zip(_TORCHVISION, LAYERS, strict=True))
_CAFFE_READERS = {".caffemodel": read_caffemodel, ".npy": read_npy}


def load_weights(
    source: str | Path,
    variant: str = "paper",
    *,
    groups: int | None = None,
    mean: Sequence[float] = InputSpec.mean,
    std: Sequence[float] = InputSpec.std,
) -> dict[str, Tensor]:
    """Return a state dict for `AlexNet(..., variant, groups=groups)`: conv1.weight ... fc8.bias.

    No code in a file is run. Tensors with unknown names are left out; the log lists them, and those
    that the weights lack. Shapes are only checked by `copy_blocks`. Grouped weights are expanded if
    the network has no groups.

    Args:
        source: "torchvision" (its ImageNet weights, from torchvision's cache or the internet) or a
            file: `.caffemodel` or `.npy` of Caffe's AlexNet or CaffeNet, or `.pt`, `.pth`, `.ckpt`
            or `.safetensors` with a state dict. The state dict may be under the key "state_dict",
            and its names may be ours, ours after "network." (Lightning) or torchvision's.
        mean, std: per channel of the network's input, RGB (v / 255 - mean) / std. Caffe's weights
            are converted to this input exactly. torchvision's weights, exported files and
            checkpoints of ours must state the same mean and std. All other files do not state
            the input that they were trained with.
    """
    settings = variant_settings(variant)
    path, own = Path(source), InputSpec(0, tuple(mean), tuple(std))  # type: ignore[arg-type]
    if source == "torchvision":
        if not settings.torchvision:
            raise UserError(
                f"weights=torchvision: do not fit variant {variant}. Use model=torchvision."
            )
        tensors, expected = torchvision_weights("alexnet")
        check_input("weights=torchvision", expected, own)
        found = _renamed(tensors)
    else:
        if not path.is_file():
            raise UserError(f"{path}: no such file. Give a weights file or the word torchvision.")
        if path.suffix.lower() in _CAFFE_READERS and settings.torchvision:
            raise UserError(
                f"{path}: has Caffe's AlexNet, not torchvision's. Set the variant to paper, bvlc "
                "or caffenet."
            )
        found = _read(path, own)
    state = {name: found[name] for name in sorted(_OWN_NAMES & found.keys())}
    if not state:
        raise UserError(
            f"{source}: has no tensor with a known name, only {shortened(found)}. Rename its "
            "tensors to conv1.weight and so on."
        )
    log_unmatched(found.keys() - state.keys(), _OWN_NAMES - state.keys())
    if (settings.groups if groups is None else groups) == 1:
        _expand_all_groups(state)
    return state


def torchvision_weights(name: str) -> tuple[dict[str, Tensor], InputSpec]:
    """Return torchvision's first weights of a network, and the input that they expect."""
    from torchvision.models import get_model_weights

    weights: Any = next(iter(get_model_weights(name)))
    given = weights.transforms()
    try:
        content = weights.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except Exception as error:  # no connection, no cache, or a damaged file in the cache
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise UserError(
            f"weights=torchvision: could neither be read from {place} nor downloaded "
            f"({first_line(error)}). Download {weights.url} elsewhere and put it there."
        ) from error
    return content, InputSpec(int(given.crop_size[0]), tuple(given.mean), tuple(given.std))


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


def _read(path: Path, own: InputSpec) -> dict[str, Tensor]:
    if has_tensors(path):
        return _renamed(read_tensors(path, own))
    if (suffix := path.suffix.lower()) not in _CAFFE_READERS:
        suffixes = ", ".join([*_CAFFE_READERS, *SUFFIXES])
        raise UserError(f"{path}: unknown kind of weights file. Use one of {suffixes}.")
    state = _CAFFE_READERS[suffix](path)
    check_finite(path, state)
    if "conv1.weight" in state:
        weight, bias = state["conv1.weight"], state.get("conv1.bias")
        if bias is None or weight.dim() != 4 or weight.shape[1] != 3:
            raise UserError(
                f"{path}: conv1.weight has the shape {tuple(weight.shape)}, but must have the "
                "shape (filters, 3, height, width) and come with a bias. Use a file of AlexNet or "
                "CaffeNet."
            )
        state["conv1.weight"], state["conv1.bias"] = fold_input(weight, bias, own.mean, own.std)
    return state


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our names where they have one."""
    state = {}
    theirs = [f"{layer}.{kind}" for layer in _TORCHVISION for kind in ("weight", "bias")]
    for name, value in without_prefix(tensors, {*_OWN_NAMES, *theirs}).items():
        module, _, kind = name.rpartition(".")
        state[f"{_LAYER_OF_TORCHVISION.get(module, module)}.{kind}"] = value
    return state
