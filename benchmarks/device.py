"""What one device does with the framework's networks, in a few minutes.

`python -m benchmarks --device cuda --out DIR` prints and writes to DIR/RESULTS.md:

* the device's own limits: large matrix products and copies in its memory;
* training steps of each network on a batch in its memory: images/s in several precisions, compiled
  and with CUDA graphs, and the share of the limit of arithmetic;
* where a step's time goes, with the preparation of the images, and the size of its activations;
* how far logits and gradients are from those of the CPU in float64.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import networks
from benchmarks.tables import show
from benchmarks.timing import spread, synchronize
from stagetransfer.data.images import augment, to_input
from stagetransfer.models import build_backbone

CLASSES = 7
SPEED_COLUMNS = "network, batch, mode", "images/s", "TFLOP/s", "of the limit", "MiB", "ready in s"
PART_COLUMNS = "network, batch", "images", "forward", "backward", "optimiser", "activations"


@dataclass(frozen=True)
class Mode:
    """How a step is computed."""

    name: str
    bfloat16: bool = False
    tf32: bool = False
    compiled: str | None = None  # a mode of torch.compile

    @contextmanager
    def active(self, device: torch.device) -> Iterator[None]:
        """Set the precision of products for a while."""
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = self.tf32
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
                yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]


FLOAT32, TF32, BFLOAT16 = Mode("float32"), Mode("TF32", tf32=True), Mode("bfloat16", bfloat16=True)
COMPILED = (
    Mode("bfloat16, compiled", bfloat16=True, compiled="default"),
    Mode("bfloat16, compiled, CUDA graphs", bfloat16=True, compiled="reduce-overhead"),
)


def measure(device: str, names: Sequence[str], batches: Sequence[int], *, rounds: int) -> None:
    """Print all tables for a device such as "cuda" or "cpu"."""
    where = torch.device(device)
    gpu = where.type == "cuda"
    modes = [FLOAT32, TF32, BFLOAT16] if gpu else [FLOAT32, BFLOAT16]
    limits = _limits(where, modes, 8192 if gpu else 512, rounds)
    bandwidth = _bandwidth(where, 2**30 if gpu else 2**26, rounds)
    rows = [(f"products in {mode.name}", f"{limits[mode.name]:.2f} TFLOP/s") for mode in modes]
    show("limits, measured", ("limit", "best"), [*rows, ("copy", f"{bandwidth:.0f} GB/s")])
    speeds, parts, errors = [], [], []
    for name in names:
        flops = _flops(name)
        for batch in batches:
            for mode in (*modes, *COMPILED) if gpu else modes:
                speeds.append(_speed(name, batch, mode, where, rounds, flops, limits))
        parts.append(_parts(name, max(batches), modes[-1], where, rounds))
        errors += [_error(name, mode, where) for mode in modes]
    show(f"training steps on a batch in memory, {rounds} rounds", SPEED_COLUMNS, speeds)
    show(f"milliseconds of a step in {modes[-1].name}, best of {rounds}", PART_COLUMNS, parts)
    title = "relative differences from PyTorch's layers in float64 on the CPU"
    show(title, ("network, mode", "logits", "gradient of the first layer"), errors)


def _limits(
    device: torch.device, modes: Sequence[Mode], side: int, rounds: int
) -> dict[str, float]:
    """Return the TFLOP/s of square matrix products in each mode."""
    a, b = torch.randn(2, side, side, device=device)
    found = {}
    for mode in modes:
        with mode.active(device):
            seconds = min(_seconds(lambda: a @ b, rounds))
        found[mode.name] = 2 * side**3 / seconds / 1e12
    return found


def _bandwidth(device: torch.device, size: int, rounds: int) -> float:
    """Return the GB/s of a copy within the memory, reading and writing."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / min(_seconds(lambda: target.copy_(source), rounds)) / 1e9


def _flops(name: str) -> float:
    """Return the floating point operations of a training step for one image."""
    with torch.device("meta"):
        model = networks.settings(name)
        network = build_backbone(model, CLASSES).net
        images = torch.empty(2, 3, model.input_size, model.input_size)
        with FlopCounterMode(display=False) as counter:
            network(images).sum().backward()
    return float(counter.get_total_flops()) / 2


def _speed(
    name: str,
    batch: int,
    mode: Mode,
    device: torch.device,
    rounds: int,
    flops: float,
    limits: dict[str, float],
) -> Sequence[str]:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    network, optimiser = _network(name, device)
    forward: Callable[[Tensor], Tensor] = network
    if mode.compiled:
        forward = torch.compile(network, mode=mode.compiled)
    images, labels = _batch(name, batch, device)

    def step() -> None:
        with mode.active(device):
            loss = F.cross_entropy(forward(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()

    for _ in range(3):  # CUDA graphs are recorded in the second or third step
        step()
    synchronize()
    ready = time.perf_counter() - start
    speeds = [batch / seconds for seconds in _seconds(step, rounds)]
    done = flops * max(speeds) / 1e12
    share = done / limits[mode.name.split(",")[0]]
    memory = torch.cuda.max_memory_reserved() / 2**20 if device.type == "cuda" else 0
    label = f"{name}, {batch}, {mode.name}"
    return label, spread(speeds, 0), f"{done:.2f}", f"{share:.2f}", f"{memory:.0f}", f"{ready:.1f}"


def _parts(name: str, batch: int, mode: Mode, device: torch.device, rounds: int) -> Sequence[str]:
    """Return the milliseconds of each part of a step, and of moving its activations once."""
    network, optimiser = _network(name, device)
    labels = _batch(name, batch, device)[1]
    stored = torch.randint(256, (batch, 1, 32, 32), dtype=torch.uint8, device=device)
    size = networks.settings(name).input_size
    mean = torch.full((3, 1, 1), 0.5, device=device)
    best = [float("inf")] * 4
    for _ in range(rounds + 1):
        times = [_now()]
        images = to_input(augment(stored, mirror=True, turn=True, crop=0.0), size, mean, mean)
        times.append(_now())
        with mode.active(device):
            loss = F.cross_entropy(network(images), labels)
        times.append(_now())
        loss.backward()  # type: ignore[no-untyped-call]
        times.append(_now())
        optimiser.step()
        optimiser.zero_grad()
        times.append(_now())
        best = [min(one, b - a) for one, a, b in zip(best, times, times[1:], strict=False)]
    kept = _activations(network, images, mode, device)
    return f"{name}, {batch}", *(f"{1e3 * one:.2f}" for one in best), f"{kept / 2**20:.0f} MiB"


def _activations(network: nn.Module, images: Tensor, mode: Mode, device: torch.device) -> int:
    """Return the bytes that a forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {one.untyped_storage().data_ptr() for one in network.parameters()}
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, mode.active(device):
        result = network(images)
    del result
    return sum(size for place, size in kept.items() if place not in own)


def _error(name: str, mode: Mode, device: torch.device) -> Sequence[str]:
    """Compare a step in evaluation mode with the same of PyTorch's layers in float64."""
    images, labels = _batch(name, 4, torch.device("cpu"))
    network, _ = _network(name, torch.device("cpu"))
    exact = copy.deepcopy(network)  # in float64, our layers compute as PyTorch's do
    network = network.to(device).eval()
    with mode.active(device):
        found = _step(network, images.to(device), labels.to(device))
    expected = _step(exact.double().eval(), images.double(), labels)
    pairs = zip(found, expected, strict=True)
    return f"{name}, {mode.name}", *(f"{_relative(a, b):.1e}" for a, b in pairs)


def _step(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and the gradient of the first parameter."""
    logits = network(images)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels), [next(network.parameters())])
    return logits.detach(), gradient


def _relative(found: Tensor, exact: Tensor) -> float:
    return float((found.cpu().double() - exact).norm() / exact.norm())


def _network(name: str, device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = build_backbone(networks.settings(name), CLASSES).net.to(device)
    net = net.to(memory_format=torch.channels_last).train()
    return net, torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=True)


def _batch(name: str, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = networks.settings(name).input_size
    images = torch.randn(batch, 3, size, size, generator=generator).to(device)
    labels = torch.arange(batch, device=device) % CLASSES
    return images.contiguous(memory_format=torch.channels_last), labels


def _seconds(run: Callable[[], Any], rounds: int) -> list[float]:
    """Return the seconds of each round after one that is not counted."""
    found = []
    for _ in range(rounds + 1):
        start = _now()
        run()
        found.append(_now() - start)
    return found[1:]


def _now() -> float:
    synchronize()
    return time.perf_counter()
