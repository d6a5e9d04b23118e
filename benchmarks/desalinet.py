"""DeSaliNet against Captum's guided backpropagation: python -m benchmarks.desalinet

Both methods take turns on the same network and the same 64 images of 227 pixels. With the start
"class", both go back from one class score to the input. With the start "features", they start from
the whole feature map (AlexNet: pool5) with its own activations; Captum does this by the gradient of
half its sum of squares, on a network that ends there. Captum uses the gradient of LRN, as ours does
with lrn="gradient". By default ours leaves LRN out, as the paper does; other networks have no LRN.

    python -m benchmarks.desalinet --network resnet18 --size 224    # of torchvision
"""

from __future__ import annotations

import argparse
import warnings

import torch
from captum.attr import GuidedBackprop
from torch import Tensor, nn

from benchmarks.tables import show
from benchmarks.timing import paired_ratio, spread, time_in_turn
from stagetransfer.config.schema import Model
from stagetransfer.explain import desalinet
from stagetransfer.models import Backbone, build_backbone


class _Energy(nn.Module):
    """Half the sum of squares of a network's output for each image, (N, 1)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        energy: Tensor = self.network(images).flatten(1).square().sum(1, keepdim=True)
        return energy / 2


def _up_to_the_feature_map(network: Backbone) -> nn.Sequential:
    """Return the modules up to the feature map, which the network must call in their order."""
    children = dict(network.net.named_children())
    names = list(children)
    return nn.Sequential(
        *(children[name] for name in names[: names.index(network.feature_map) + 1])
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=227)
    parser.add_argument("--network", default="alexnet", help="alexnet, or a ResNet of torchvision")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*backward hooks.*")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    library = "alexnet" if arguments.network == "alexnet" else "torchvision"
    settings = Model(library, arguments.network, input_size=arguments.size)
    network = build_backbone(settings, 7).eval().to(device)
    images = torch.randn(arguments.batch, 3, arguments.size, arguments.size, device=device)
    captum_class = GuidedBackprop(network)
    captum_features = GuidedBackprop(_Energy(_up_to_the_feature_map(network)))

    def captum(method: GuidedBackprop, target: int) -> Tensor:
        result: Tensor = method.attribute(images.clone().requires_grad_(), target=target)
        return result.detach()

    candidates = {
        ("class", "Captum"): lambda: captum(captum_class, 3),
        ("class", "ours, lrn=gradient"): lambda: desalinet(
            network, images, None, ("class", 3), lrn="gradient"
        ),
        ("class", "ours"): lambda: desalinet(network, images, None, ("class", 3)),
        ("features", "Captum"): lambda: captum(captum_features, 0),
        ("features", "ours, lrn=gradient"): lambda: desalinet(network, images, lrn="gradient"),
        ("features", "ours"): lambda: desalinet(network, images),
    }
    for start in ("class", "features"):
        torch.testing.assert_close(
            candidates[start, "ours, lrn=gradient"](),
            candidates[start, "Captum"](),
            rtol=1e-3,
            atol=1e-5 * candidates[start, "Captum"]().abs().max().item(),
        )
    named = {f"{start}|{name}": run for (start, name), run in candidates.items()}
    seconds = time_in_turn(named, arguments.rounds)
    rows = []
    for key, values in seconds.items():
        start, name = key.split("|")
        ratio = paired_ratio(values, seconds[f"{start}|Captum"])
        rows.append((start, name, spread(values), f"{ratio:.2f}"))
    title = f"{arguments.batch} images of {arguments.size} pixels, {arguments.rounds} rounds"
    show(title, ("start", "method", "seconds (least-greatest)", "of Captum's time"), rows)


if __name__ == "__main__":
    main()
