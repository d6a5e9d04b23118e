"""One interface to networks of all families: ordered blocks, a head, features, expected input."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stagetransfer.errors import UserError
from stagetransfer.models.block_structure import other_names, part_of, tensor_names


@dataclass(frozen=True)
class InputSpec:
    """The input of a network: images (N, 3, size, size), RGB, as (v / 255 - mean) / std."""

    size: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of ImageNet
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Set all modules to evaluation mode within the block, and each back to its own mode after."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class Backbone(nn.Module):
    """A classification network with ordered blocks.

    It takes images (N, 3, size, size), normalised as `input` says, and returns logits (N, classes).

    Args:
        net: the network. The names of tensors and modules are those of `net`.
        blocks: the names of the tensors of each block, from the input to the output. Each parameter
            and buffer is in exactly one block. The last block is the head.
        head: the name of the last linear layer.
        classifier: the blocks that a transfer re-initialises by default.
        initialise: called as (net, blocks, scheme, seed), gives blocks new initial values.
        taps: the module whose output stands for a block, where it is not the block's last part.
        feature_map: see the property; None: it is found.
        channels: the dimension of the channels in the maps of the blocks: 1, or 3 as in Swin.
        leaves, functions: what `torch.fx` must not trace into, besides the modules of torch.nn.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        blocks: Mapping[str, Sequence[str]],
        head: str,
        classifier: Sequence[str],
        input: InputSpec,
        initialise: Callable[[nn.Module, Sequence[str], str, int], None],
        taps: Mapping[str, str] | None = None,
        feature_map: str | None = None,
        channels: int = 1,
        leaves: Sequence[type[nn.Module]] = (),
        functions: Sequence[Callable[..., Any]] = (),
    ) -> None:
        super().__init__()
        self.net = net
        self.blocks = tuple(blocks)
        self.head = head
        self.classifier = tuple(classifier)
        self.input = input
        self.leaves, self.functions = tuple(leaves), tuple(functions)
        self._initialise = initialise
        self._block_of = {name: block for block, names in blocks.items() for name in names}
        if sorted(tensor_names(net)) != sorted(name for names in blocks.values() for name in names):
            raise ValueError("each tensor of the network must be in exactly one block")
        self._first_names = other_names(net)
        self._taps = {
            # A block within one part, such as levels.0 of `levels`, is a module of its own.
            block: block if names[-1].startswith(f"{block}.") else part_of(names[-1])
            for block, names in blocks.items()
        }
        self._taps.update(taps or {})
        self._feature_map = feature_map
        self._channels = channels

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        return logits

    @property
    def feature_map(self) -> str:
        """The module with the last output (N, C, H, W), H and W above 1, before the classifier.

        Of a network without such outputs, such as a vision transformer, the last module before it.
        """
        if self._feature_map is None:
            new = {*self.classifier}
            parts = [part_of(name) for name, block in self._block_of.items() if block not in new]
            spatial: list[str] = []

            def hook(part: str, module: nn.Module, inputs: Any, y: Any) -> None:
                if isinstance(y, Tensor) and y.dim() == 4 and min(y.shape[2:]) > 1:
                    spatial.append(part)

            with ExitStack() as stack, torch.no_grad(), evaluation_mode(self):
                for part in dict.fromkeys(parts):
                    module = self.net.get_submodule(part)
                    stack.enter_context(module.register_forward_hook(partial(hook, part)))
                size = self.input.size
                self(torch.zeros(1, 3, size, size).to(next(self.parameters())))
            self._feature_map = spatial[-1] if spatial else parts[-1]
        return self._feature_map

    def block_of(self, name: str) -> str:
        """Return the block of a parameter or buffer, by its first or another name."""
        return self._block_of[self._first_names.get(name, name)]

    def tensors_of(self, blocks: Iterable[str]) -> list[str]:
        """Return the names of all parameters and buffers of some blocks, also of unsaved ones."""
        chosen = {*blocks}
        return [name for name, block in self._block_of.items() if block in chosen]

    def state(self, blocks: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the saved parameters and buffers of some blocks (None: all), by name.

        What several modules share is returned once, by its first name.
        """
        chosen = {*(self.blocks if blocks is None else blocks)}
        saved = self.net.state_dict()
        return {
            name: value
            for name, value in saved.items()
            if name not in self._first_names and self._block_of[name] in chosen
        }

    def module_of(self, layer: str) -> nn.Module:
        """Return the module that stands for a block, or has this name; UserError if none does."""
        name = self._taps.get(layer, layer)
        try:
            return self.net.get_submodule(name)
        except AttributeError as error:
            known = ", ".join(self.blocks)
            raise UserError(
                f"layer={layer}: the network has no such layer. Use a block ({known}) or a module."
            ) from error

    def before(self, block: str) -> tuple[str, ...]:
        """Return the blocks that come before one, from the input on."""
        return self.blocks[: self.blocks.index(block)]

    @torch.no_grad()
    def initialise(self, scheme: str, seed: int, blocks: Iterable[str] | None = None) -> None:
        """Give blocks new initial values, parameters and buffers; None: all blocks.

        `seed` alone decides the values, not the global generators. For the schemes see
        `stagetransfer.models.initialisation`.
        """
        chosen = {*(self.blocks if blocks is None else blocks)}
        self._initialise(self.net, [one for one in self.blocks if one in chosen], scheme, seed)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features that the head gets, (N, F), and the logits (N, classes)."""
        found: list[Tensor] = []
        head = self.net.get_submodule(self.head)
        with head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0])):
            logits = self(images)
        return found[0].flatten(1), logits

    def channel_means(self, output: Tensor) -> Tensor:
        """Return the means (N, C) of a block's output over its places or tokens.

        Maps of square images are square, so their channels are the side that differs from the two
        others. Only where all three are equal, the dimension that the network states is needed.
        """
        if output.dim() == 4:
            first, second, third = output.shape[1:]
            last = first == second and (second != third or self._channels == 3)
            return output.mean((1, 2) if last else (2, 3))
        return output.mean(1) if output.dim() == 3 else output.flatten(1)

    @contextmanager
    def watched(
        self,
        blocks: Iterable[str] | None = None,
        shorten: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[dict[str, Tensor]]:
        """Yield a dict that gets the output (N, ...) of blocks whenever the network is called.

        `shorten` is applied to each output at once, so that its memory is free for the next one.
        """
        outputs: dict[str, Tensor] = {}

        def keep(block: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
            outputs[block] = output if shorten is None else shorten(output)

        with ExitStack() as stack:
            for block in self.blocks if blocks is None else blocks:
                hook = partial(keep, block)
                stack.enter_context(self.module_of(block).register_forward_hook(hook))
            yield outputs
