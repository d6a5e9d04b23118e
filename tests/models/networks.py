"""What must hold for every network, block by block. The command prints a table of networks.

PYTHONPATH=tests python tests/models/networks.py > table.md       one network of each timm file
PYTHONPATH=tests python tests/models/networks.py timm:convnext_tiny torchvision:resnet18@64
"""

import sys
import time
from dataclasses import dataclass

import timm
import torch
import torchvision
from timm.models import list_modules
from torch.nn import functional as F

from stagetransfer.config.schema import Model
from stagetransfer.errors import UserError
from stagetransfer.models import Backbone, FrozenPrefix, NoSplit, build_backbone, fixed_modules
from stagetransfer.training.health import _dead_shares, _watched_relus

CLASSES = 5
LARGE = 100e6  # parameters, above which only the first, the middle and the last block are tried


@dataclass
class Found:
    """How a network behaves; `cached` is the largest relative difference, or why there is none."""

    blocks: tuple[str, ...]
    cached: float | str
    changed: list[str]  # tensors of frozen blocks that a step changed
    first_loss: float


def build(name: str, size: int | None = None) -> Backbone:
    """Return a network named as "timm:resnet18" or "torchvision:resnet18"."""
    library, _, own = name.partition(":")
    if size is None:
        size = 224
        if library == "timm":
            size = timm.get_pretrained_cfg(own).input_size[-1]
    model = Model(library=library, name=own, input_size=size, initialisation="own")
    backbone = build_backbone(model, CLASSES)
    backbone.initialise("own", 0)
    return backbone


def check(backbone: Backbone, batch: int = 8) -> Found:
    """Tune the network from each of its blocks on, with cached and with computed features."""
    blocks = backbone.blocks
    if sum(p.numel() for p in backbone.parameters()) > LARGE:
        blocks = (blocks[0], blocks[len(blocks) // 2], blocks[-1])
    torch.manual_seed(0)
    size = backbone.input.size
    images, labels = torch.randn(batch, 3, size, size), torch.arange(batch) % CLASSES
    worst: float | str = 0.0
    changed: list[str] = []
    with torch.no_grad(), _watched_relus(backbone) as used:
        first = float(F.cross_entropy(backbone.eval()(images), labels))
    assert all(0 <= share <= 1 for share in _dead_shares(used).values())
    for block in blocks:
        frozen = backbone.before(block)
        before = {name: value.clone() for name, value in backbone.state(frozen).items()}
        for name, parameter in backbone.net.named_parameters():
            parameter.requires_grad_(backbone.block_of(name) not in frozen)
        backbone.train()
        for name in fixed_modules(backbone, frozen):
            backbone.net.get_submodule(name).training = False
        if frozen and not isinstance(worst, str):
            try:
                worst = max(worst, _difference(backbone, frozen, images))
            except NoSplit as error:
                worst = str(error)
        backbone.zero_grad()
        F.cross_entropy(backbone(images), labels).backward()
        torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=1e-3).step()
        after = backbone.state(frozen)
        changed += [name for name, value in before.items() if not torch.equal(value, after[name])]
    return Found(backbone.blocks, worst, changed, first)


def _difference(backbone: Backbone, frozen: tuple[str, ...], images: torch.Tensor) -> float:
    """Return the largest relative difference of logits from cached features, in both modes."""
    tuned = [block for block in backbone.blocks if block not in frozen]
    prefix = FrozenPrefix(backbone, tuned)
    features = prefix.features(images)
    differences = []
    for training in (True, False):
        modes = [(module, module.training) for module in backbone.modules()]
        if not training:
            backbone.eval()
        with torch.no_grad():
            torch.manual_seed(1)
            expected = backbone(images)
            torch.manual_seed(1)
            found = prefix.rest(features, training=training)
        for module, mode in modes:
            module.training = mode
        differences.append(float((found - expected).abs().max() / expected.abs().max()))
    return max(differences)


def every_network() -> list[str]:
    """Return one network of each file of timm, and every classifier of torchvision."""
    found = []
    for module in list_modules():
        names = timm.list_models(module=module)
        sized = [(_parameters(name), name) for name in names[:40]]
        found += [f"timm:{min(sized)[1]}"] if sized else []
    zoo = torchvision.models
    return found + [f"torchvision:{name}" for name in zoo.list_models(module=zoo)]


def _parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in timm.create_model(name).parameters())


def smallest(name: str) -> tuple[Backbone, Found]:
    """Build and check a network at the first of some input sizes at which it can be computed."""
    for size in (64, 128):
        try:
            backbone = build(name, size)
            return backbone, check(backbone, batch=2)
        except UserError:
            raise
        except Exception as error:  # too small, or not the size that the network is built for
            print(f"{name} at {size}: {type(error).__name__}", file=sys.stderr)
    backbone = build(name)
    return backbone, check(backbone, batch=2)


def main() -> None:
    """Print one line of a Markdown table per network."""
    print("| network | size | blocks | cached features differ by | frozen tensors changed | s |")
    print("|---|---|---|---|---|---|")
    for name in sys.argv[1:] or every_network():
        start = time.perf_counter()
        network, _, size = name.partition("@")  # such as timm:resnet18@64
        try:
            if size:
                backbone = build(network, int(size))
                found = check(backbone)
            else:
                backbone, found = smallest(network)
            cached = found.cached if isinstance(found.cached, str) else f"{found.cached:.1e}"
            cells = [str(backbone.input.size), ", ".join(found.blocks), cached]
            cells.append(str(len(found.changed)))
        except UserError as error:
            cells = ["", str(error), "", ""]
        except Exception as error:
            cells = ["", f"{type(error).__name__}: {error}".replace("\n", " ")[:100], "", ""]
        seconds = f"{time.perf_counter() - start:.0f}"
        print(f"| {network} | " + " | ".join(cells) + f" | {seconds} |", flush=True)


if __name__ == "__main__":
    main()
