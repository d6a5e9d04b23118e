"""The part of a network that does not depend on any tuned tensor, and the rest, as two functions.

The network is traced with `torch.fx` in evaluation and in training mode, because both may run
different operations. In each graph, everything that depends on a tuned parameter or buffer belongs
to the rest. So does dropout whose output only the rest uses: it is part of the first tuned block.
"""

import inspect
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torchvision.models.feature_extraction import NodePathTracer

from stagetransfer.models.accelerate import FASTER
from stagetransfer.models.backbone import Backbone, evaluation_mode
from stagetransfer.models.block_structure import tensor_names

_SAMPLES = (2, 3)  # numbers of images that show which values depend on the number
_TOLERANCE = 1e-3  # relative to the largest logit
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


class NoSplit(ValueError):
    """The network cannot be split; the message says why."""


@dataclass(frozen=True)
class _Value:
    """A value that the rest needs from the prefix.

    A tensor with `rows` rows per image has a `shape` (of a row), another value is `constant`, a
    number that is proportional to the number of images is `per_image` times it, and a tuple or list
    has the values `items`. A tensor gets the layout again that it had, because dropout draws
    another mask for another layout.
    """

    shape: tuple[int, ...] | None = None
    rows: int = 1
    channels_last: bool = False
    constant: Any = None
    per_image: int = 0
    items: "tuple[_Value, ...] | list[_Value] | None" = None

    def without_tensors(self, images: int) -> Any:
        """Return the value for a number of images."""
        if self.items is not None:
            return type(self.items)(one.without_tensors(images) for one in self.items)
        return self.per_image * images if self.per_image else self.constant


class FrozenPrefix:
    """A network in two parts. The results of both together are those of the whole.

    NoSplit if the network cannot be traced or cut there. `tuned` are the blocks that are trained;
    `modules` has the names of the modules that run in the prefix alone.
    """

    def __init__(self, backbone: Backbone, tuned: Collection[str]) -> None:
        self._training = _Cut(backbone, tuned, training=True)
        self._testing = _Cut(backbone, tuned, training=False)
        if len(self._training.crossing) != len(self._testing.crossing):
            raise NoSplit("training and evaluation need different values at the cut")
        self.modules = self._testing.modules
        self._net = backbone.net
        self._fixed = [backbone.net.get_submodule(name) for name in self.modules]
        self._values: tuple[_Value, ...] | None = None

    def features(self, images: Tensor) -> Tensor:
        """Return what the rest needs of images (N, 3, S, S), as (N, F). No gradients are kept."""
        for module in self._fixed:
            module.eval()
        with torch.no_grad():
            found = self._testing.prefix(images)
        values = self._described(images)
        rows = [
            (one.permute(0, 2, 3, 1) if value.channels_last else one).reshape(len(images), -1)
            for one, value in zip(found, values, strict=True)
            if value.shape is not None
        ]
        return torch.cat(rows, 1) if len(rows) > 1 else rows[0]

    def rest(self, features: Tensor, *, training: bool) -> Tensor:
        """Return the logits (N, classes) from features (N, F)."""
        assert self._values is not None, "call `features` first"
        lengths = [
            value.rows * math.prod(value.shape) for value in self._values if value.shape is not None
        ]
        tensors = iter(torch.split(features.clone(), lengths, 1))  # networks may work in place
        arguments: list[Any] = []
        for value in self._values:
            if value.shape is None:
                arguments.append(value.without_tensors(len(features)))
                continue
            rows = next(tensors)
            if value.channels_last:
                c, h, w = value.shape
                arguments.append(rows.reshape(-1, h, w, c).permute(0, 3, 1, 2))
            else:
                arguments.append(rows.reshape(-1, *value.shape))
        cut = self._training if training else self._testing
        logits: Tensor = cut.rest(*arguments)
        return logits

    # Its values may be used in training, though Lightning calls it first in inference mode.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _described(self, images: Tensor) -> tuple[_Value, ...]:
        """Return the kinds of values at the cut; found, and tried, with a few images once."""
        if self._values is None:
            image = images[:1]  # in its layout, and with others, which shows their order
            several = torch.cat([image, image.flip(-1), image.flip(-2)])
            few = [several[:count] for count in _SAMPLES]
            found = [self._testing.prefix(one) for one in few]
            self._values = tuple(_describe(*pair) for pair in zip(*found, strict=True))
            with evaluation_mode(self._net):
                expected = self._net(few[0])
                stored = torch.cat([self.features(one) for one in torch.split(few[0], 1)])
                given = self.rest(stored, training=False)
            if (given - expected).abs().max() > _TOLERANCE * expected.abs().max():
                raise NoSplit("its two parts compute something else than the whole")
        return self._values


def _describe(two: Any, three: Any) -> _Value:
    """Describe a value from its forms for two and for three images."""
    if isinstance(two, Tensor):
        if two.shape == three.shape and torch.equal(two, three):
            return _Value(constant=two)
        if two.dim() and two.shape[1:] == three.shape[1:] and 3 * len(two) == 2 * len(three):
            last = two.dim() == 4 and not two.is_contiguous()
            last = last and two.is_contiguous(memory_format=torch.channels_last)
            shape = tuple(two.shape[1:])
            return _Value(shape=shape, rows=len(two) // 2, channels_last=last)
    elif isinstance(two, tuple | list) and len(two) == len(three):
        items = [_describe(*pair) for pair in zip(two, three, strict=True)]
        if all(one.shape is None for one in items):
            return _Value(items=items if isinstance(two, list) else tuple(items))
    elif isinstance(two, int | float | bool | torch.dtype | torch.device) or two is None:
        if two == three:
            return _Value(constant=two)
        if isinstance(two, int) and 3 * two == 2 * three:
            return _Value(per_image=two // 2)
    raise NoSplit(f"a {type(two).__name__} crosses the cut")


class _Cut:
    """The two parts of a network's graph in one mode."""

    def __init__(self, backbone: Backbone, tuned: Collection[str], *, training: bool) -> None:
        graph = _trace(backbone, training)
        late = _rest(graph, backbone, tuned)
        early = [node for node in graph.nodes if node not in late]
        self.crossing = [node for node in early if any(user in late for user in node.users)]
        if any(node.op == "placeholder" for node in self.crossing):
            raise NoSplit("the rest needs the images themselves")
        output = next(node for node in graph.nodes if node.op == "output")
        tail = [node for node in graph.nodes if node in late and node is not output]
        self.prefix = _part(backbone.net, early, (), self.crossing)
        self.rest = _part(backbone.net, tail, self.crossing, output.args[0])
        self.modules = _called(early) - _called(tail)


def _called(nodes: Iterable[fx.Node]) -> frozenset[str]:
    return frozenset(str(node.target) for node in nodes if node.op == "call_module")


def _trace(backbone: Backbone, training: bool) -> fx.Graph:
    tracer = NodePathTracer(
        leaf_modules=[*backbone.leaves, *FASTER.values()],
        autowrap_functions=tuple(backbone.functions),
    )
    # Further arguments of `forward` keep their default values, on which its branches may depend.
    _, *further = inspect.signature(backbone.net.forward).parameters.values()
    defaults = {one.name: one.default for one in further if one.default is not one.empty}
    try:
        with evaluation_mode(backbone.net):
            backbone.net.train(training)
            graph: fx.Graph = tracer.trace(backbone.net, concrete_args=defaults)
        _, *others = [node for node in graph.nodes if node.op == "placeholder"]
        for node in others:  # with the checks that a call gives these values
            for check in [*node.users]:
                for part in [*check.users]:
                    graph.erase_node(part)
                graph.erase_node(check)
            graph.erase_node(node)
    except Exception as error:  # tracing fails in as many ways as networks are written
        raise NoSplit(f"it cannot be traced ({type(error).__name__})") from error
    return graph


def _rest(graph: fx.Graph, backbone: Backbone, tuned: Collection[str]) -> set[fx.Node]:
    """Return the nodes that depend on a tuned tensor, and dropout that only they use."""
    names = backbone.tensors_of(tuned)
    found: set[fx.Node] = set()
    for node in graph.nodes:
        own = node.op in ("call_module", "get_attr") and any(
            name == node.target or name.startswith(f"{node.target}.") for name in names
        )
        if own or node.op == "output" or any(one in found for one in node.all_input_nodes):
            found.add(node)
    for node in reversed(graph.nodes):
        if _drops(node, backbone.net) and node.users and all(one in found for one in node.users):
            found.add(node)
    return found


def _drops(node: fx.Node, net: nn.Module) -> bool:
    if node.op == "call_module":
        return isinstance(net.get_submodule(str(node.target)), _DROPOUTS)
    return node.op == "call_function" and node.target in (F.dropout, F.dropout2d, F.alpha_dropout)


def _part(
    net: nn.Module, nodes: Iterable[fx.Node], inputs: Sequence[fx.Node], result: Any
) -> fx.GraphModule:
    """Return the nodes as a module of its own, which shares all tensors with the network."""
    part = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {node: part.placeholder(node.name) for node in inputs}
    for node in nodes:
        copies[node] = part.node_copy(node, copies.__getitem__)
    part.output(fx.map_arg(result, copies.__getitem__))
    return fx.GraphModule(net, part)


def fixed_modules(backbone: Backbone, frozen: Collection[str]) -> list[str]:
    """Return the names of the modules that must stay in evaluation mode if blocks are frozen.

    These are the modules whose tensors, with those of the modules inside, are all frozen, and the
    modules without tensors that only the prefix runs.
    """
    if not frozen:
        return []
    try:
        tuned = [block for block in backbone.blocks if block not in frozen]
        alone = FrozenPrefix(backbone, tuned).modules
    except NoSplit:
        alone = frozenset()
    fixed: list[str] = []
    for name, module in backbone.net.named_modules():
        own = [f"{name}.{one}" if name else one for one in tensor_names(module)]
        if own and all(backbone.block_of(one) in frozen for one in own):
            fixed += [f"{name}.{one}" if one else name for one, _ in module.named_modules()]
        elif not own and name in alone:
            fixed.append(name)
    return list(dict.fromkeys(fixed))
