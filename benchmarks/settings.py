"""The effect of each setting on speed: python -m benchmarks.settings --network paper resnet18

Measures one training step of a network on one batch in memory, with one setting changed at a time,
and the network and optimiser of torchvision's reference loop. `--compile` adds torch.compile, which
needs a minute or more to compile. The network is a variant of AlexNet, or any network of
torchvision or, as in timm:efficientnet_lite0, of timm.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import networks
from benchmarks.plain import make_plain
from benchmarks.tables import show
from benchmarks.timing import paired_ratio, spread, time_in_turn
from stagetransfer.models import build_backbone
from stagetransfer.training.machine import keep_freed_memory, resolve_precision

REFERENCE: dict[str, Any] = {
    "precision": "32-true", "layout": torch.contiguous_format, "optimiser": {"foreach": True},
    "plain": ["convolutions", "linear", "lrn"],
}  # fmt: skip


def main() -> None:
    """Print one table per network."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", default=list(networks.ALEXNETS))
    parser.add_argument("--size", type=int, default=224, help="input size; AlexNet has its own")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bfloat16", action="store_true", help="measure it on a CPU")
    options = parser.parse_args()
    for name in options.network:
        size = networks.ALEXNETS.get(name, options.size)
        _measure(
            name, size, options.rounds, options.batch,
            compiled=options.compile, half=options.bfloat16,
        )  # fmt: skip


def _measure(name: str, size: int, rounds: int, batch: int, *, compiled: bool, half: bool) -> None:
    auto = resolve_precision("auto", "auto")
    defaults: dict[str, Any] = {"precision": auto}
    changes: dict[str, dict[str, Any]] = {
        "default": {},
        "reference": REFERENCE,
        "contiguous": {"layout": torch.contiguous_format},
        "optimiser foreach": {"optimiser": {"foreach": True}},
        "optimiser without foreach": {"optimiser": {"foreach": False}},
        "PyTorch's convolutions": {"plain": ["convolutions"]},
    }
    if name in networks.ALEXNETS:
        changes["PyTorch's linear layers"] = {"plain": ["linear"]}
    if name == "paper":
        changes["PyTorch's LRN"] = {"plain": ["lrn"]}
    if auto != "32-true":
        changes["float32"] = {"precision": "32-true"}
    elif half:
        changes["bfloat16"] = {"precision": "bf16-mixed"}
        changes["bfloat16, PyTorch's convolutions"] = {
            "precision": "bf16-mixed", "plain": ["convolutions"],
        }  # fmt: skip
    if compiled:
        changes["torch.compile"] = {"compiled": True}
    steps = {
        key: _step(name, size, batch, **(defaults | change)) for key, change in changes.items()
    }
    seconds = time_in_turn(steps, rounds)
    rows = [
        (key, spread(values), f"{paired_ratio(values, seconds['default']):.2f}")
        for key, values in seconds.items()
    ]
    title = f"{name}, one step on a batch of {batch}, input {size}, {auto}, {rounds} rounds"
    show(title, ("setting", "seconds", "relative to default"), rows)


def _step(
    name: str,
    size: int,
    batch: int,
    *,
    precision: str,
    layout: torch.memory_format = torch.channels_last,
    optimiser: dict[str, bool] | None = None,
    plain: Sequence[str] = (),
    compiled: bool = False,
) -> Callable[[], None]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    network = build_backbone(networks.settings(name, size), 7).net
    make_plain(network, **{kind: kind in plain for kind in ("convolutions", "linear", "lrn")})
    network = network.to(device).to(memory_format=layout).train()
    arguments: dict[str, Any] = optimiser or {"fused": True}
    sgd = torch.optim.SGD(
        network.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, **arguments
    )
    images = torch.randn(batch, 3, size, size, device=device)
    images = images.contiguous(memory_format=layout)
    labels = torch.randint(7, (batch,), device=device)
    forward = torch.compile(network) if compiled else network
    bfloat16 = precision.startswith("bf16")
    return functools.partial(_run, forward, sgd, images, labels, bfloat16)


def _run(
    network: Callable[[Tensor], Tensor],
    optimiser: torch.optim.SGD,
    images: Tensor,
    labels: Tensor,
    bfloat16: bool,
) -> None:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
        loss = F.cross_entropy(network(images), labels)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


if __name__ == "__main__":
    main()
