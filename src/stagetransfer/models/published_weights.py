"""What published weights expect as input, and torchvision's weights from its cache or the hub."""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stagetransfer.errors import UserError
from stagetransfer.models.backbone import InputSpec
from stagetransfer.models.tensor_files import first_sentence

METADATA_KEY = "stagetransfer"
"""Key in the metadata of an exported .safetensors file. Its value is a JSON object with what the
tensors do not say: mean, std, classes and so on."""

log = logging.getLogger(__name__)


def stated_input(path: Path, metadata: Mapping[str, str], own: InputSpec) -> InputSpec:
    """Return the input that an exported file states, with `own` for what it does not state.

    Args:
        metadata: that of the safetensors file; files of other tools state nothing.
    """
    try:
        stated = json.loads(metadata.get(METADATA_KEY, "{}"))
        mean, std = (tuple(map(float, stated.get(k, getattr(own, k)))) for k in ("mean", "std"))
        return InputSpec(int(stated.get("input_size", own.size)), mean, std)  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: its description can't be read. Export it again.") from error


def check_input(source: object, expected: InputSpec, own: InputSpec) -> None:
    """Refuse weights for another normalisation; say so if they are for another size of images.

    The mean cannot be folded into a first convolution that pads its input with zeros.
    """
    if (expected.mean, expected.std) != (own.mean, own.std):
        raise UserError(
            f"{source}: these weights expect input of mean={list(expected.mean)}, "
            f"std={list(expected.std)}. Set model.mean and model.std to these."
        )
    if expected.size != own.size:
        text = "  %s: made for images of %d pixels, used for %d (model.input_size)"
        log.info(text, source, expected.size, own.size)


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
            f"({first_sentence(error)}). Download {weights.url} elsewhere and put it there."
        ) from error
    return content, InputSpec(int(given.crop_size[0]), tuple(given.mean), tuple(given.std))


def shortened(names: Iterable[str]) -> str:
    """Return the first names in a list, and how many there are more."""
    first, rest = sorted(names)[:8], sorted(names)[8:]
    return (", ".join(first) or "none") + (f" and {len(rest)} more" if rest else "")
