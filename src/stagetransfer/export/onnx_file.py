"""A network as an ONNX file, and the check that ONNX Runtime computes the same as PyTorch.

Both compute in float32.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stagetransfer.errors import UserError
from stagetransfer.models import Backbone, LocalResponseNorm

OPSET = 18
BATCHES = (1, 5)  # the compared batch sizes, both different from the one used for tracing
TOLERANCE = 1e-4  # relative to the largest logit, or to 1 where all logits are smaller


@dataclass(frozen=True)
class Agreement:
    """The largest `difference` of a logit of ONNX Runtime and PyTorch, and the `largest` logit."""

    difference: float
    largest: float

    @property
    def holds(self) -> bool:
        """Whether the difference is no more than rounding."""
        return self.difference <= TOLERANCE * max(1.0, self.largest)


class _StandardLRN(nn.Module):
    """ONNX's operator LRN, used instead of our autograd function.

    The function's single operations would be traced otherwise. Both divide alpha by the size of the
    window. Their windows are the same where this size is odd, as in all networks here.
    """

    def __init__(self, norm: LocalResponseNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        return torch.onnx.ops.symbolic(
            "LRN",
            (x,),
            {"alpha": norm.alpha, "beta": norm.beta, "bias": norm.k, "size": norm.size},
            dtype=x.dtype,
            shape=x.shape,
        )


def require_onnx() -> None:
    """Raise a `UserError` if a package of the extra `export` is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name}: this package is not installed. Install it with "
            'pip install "stagetransfer[export]", or give --no-onnx.'
        ) from error


def write_onnx(network: Backbone, path: Path, properties: Mapping[str, str]) -> None:
    """Write the network in evaluation mode as ONNX, with these properties as its metadata.

    Its input is `images` (batch, 3, S, S) float32, normalised as in training, its output `logits`
    (batch, C); the batch size is free.
    """
    traced = copy.deepcopy(network).cpu().eval()
    for name, module in list(traced.net.named_modules()):
        if isinstance(module, LocalResponseNorm):
            traced.net.set_submodule(name, _StandardLRN(module))
    size = network.input.size
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
def compare_with_onnx(network: Backbone, path: Path) -> Agreement:
    """Run the network and the ONNX file on the same random images, on the CPU in float32."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    network = network.cpu().eval()
    generator = torch.Generator().manual_seed(0)
    difference = largest = 0.0
    for batch in BATCHES:
        images = torch.randn(batch, 3, *[network.input.size] * 2, generator=generator)
        expected = network(images)
        (found,) = session.run(["logits"], {"images": images.numpy()})
        distance = (torch.from_numpy(found) - expected).abs().max().nan_to_num(torch.inf)
        difference = max(difference, float(distance))
        largest = max(largest, float(expected.abs().max()))
    return Agreement(difference, largest)
