"""Local response normalisation, forward and backward: python -m benchmarks.lrn

The input has the shape of conv1's output, (32, 96, 55, 55). `nn.LocalResponseNorm` has no bfloat16
kernel on the CPU; under autocast it computes in float32, and so it does here.
"""

from __future__ import annotations

import argparse
import functools

import torch
from torch import Tensor, nn

from benchmarks.tables import show
from benchmarks.timing import paired_ratio, spread, time_in_turn
from stagetransfer.models import LocalResponseNorm

INPUTS = {
    "bfloat16, channels last": (torch.bfloat16, torch.channels_last),
    "float32, channels last": (torch.float32, torch.channels_last),
    "float32, contiguous": (torch.float32, torch.contiguous_format),
}


def measure(rounds: int, shape: tuple[int, int, int, int] = (32, 96, 55, 55)) -> None:
    """Print the table."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    rows = []
    for name, (dtype, layout) in INPUTS.items():
        x, grad = (
            torch.randn(shape, device=device).to(dtype).contiguous(memory_format=layout)
            for _ in range(2)
        )
        norms = {"PyTorch": nn.LocalResponseNorm(5), "ours": LocalResponseNorm(5)}
        runs = {key: functools.partial(_step, norm, x, grad) for key, norm in norms.items()}
        seconds = time_in_turn(runs, rounds)
        ratio = paired_ratio(seconds["PyTorch"], seconds["ours"])
        rows.append((name, spread(seconds["PyTorch"]), spread(seconds["ours"]), f"{ratio:.1f}"))
    columns = ("LRN of 5", "PyTorch, s", "ours, s", "times as fast")
    show(f"LRN, forward and backward, {tuple(shape)}, {rounds} rounds", columns, rows)


def _step(norm: nn.Module, x: Tensor, grad: Tensor) -> None:
    x = x.detach().requires_grad_()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        uses_float32 = type(norm) is nn.LocalResponseNorm and x.device.type == "cpu"
        y = norm(x.float() if uses_float32 else x)
    y.backward(grad.to(y.dtype))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    measure(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
