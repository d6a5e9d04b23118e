"""A network as ONNX, and the proof that ONNX Runtime computes what PyTorch does."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stagetransfer.errors import UserError
from stagetransfer.models import AlexNet, LocalResponseNorm

OPSET = 18
BATCHES = (1, 5)  # what is compared; neither is the batch that the network is traced with
TOLERANCE = 1e-4  # of the greatest logit, or of 1 where all are smaller


@dataclass(frozen=True)
class Agreement:
    """How far ONNX Runtime is from PyTorch: the greatest difference of a logit, and the greatest
    logit."""

    difference: float
    greatest: float

    @property
    def holds(self) -> bool:
        """Whether the difference is rounding."""
        return self.difference <= TOLERANCE * max(1.0, self.greatest)


class _StandardLRN(nn.Module):
    """ONNX's own LRN in place of our autograd function, whose operations would be traced one by
    one. Both divide alpha by the window's size; the windows agree where that is odd, as in all
    forms of AlexNet."""

    def __init__(self, norm: LocalResponseNorm) -> None:
        super().__init__()
        self.attributes: dict[str, int | float] = {
            "alpha": norm.alpha,
            "beta": norm.beta,
            "bias": norm.k,
            "size": norm.size,
        }

    def forward(self, x: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            "LRN", (x,), {**self.attributes}, dtype=x.dtype, shape=x.shape
        )


def require_onnx() -> None:
    """Raises UserError where the packages of the extra `export` are not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f'no module {error.name}; install it by pip install "stagetransfer[export]", or give '
            "--no-onnx"
        ) from error


def write_onnx(network: AlexNet, path: Path, properties: Mapping[str, str]) -> None:
    """Writes the network in eval mode: `images` (batch, 3, S, S) float32, normalised as in
    training, to `logits` (batch, C); any batch. properties: the model's metadata."""
    traced = copy.deepcopy(network).cpu().eval()
    for name, module in list(traced.named_children()):
        if isinstance(module, LocalResponseNorm):
            setattr(traced, name, _StandardLRN(module))
    size = network.input_size
    program = torch.onnx.export(
        traced,
        (torch.zeros(2, 3, size, size),),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(properties)
    program.save(path, external_data=False)


@torch.no_grad()
def compare(network: AlexNet, path: Path) -> Agreement:
    """Runs both on the same random images, in batches of several sizes, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    network = network.cpu().eval()
    generator = torch.Generator().manual_seed(0)
    difference = greatest = 0.0
    for batch in BATCHES:
        size = network.input_size
        images = torch.randn(batch, 3, size, size, generator=generator)
        ours = network(images)
        (theirs,) = session.run(["logits"], {"images": images.numpy()})
        apart = (torch.from_numpy(theirs) - ours).abs().max().nan_to_num(torch.inf)
        difference = max(difference, float(apart))
        greatest = max(greatest, float(ours.abs().max()))
    return Agreement(difference, greatest)
