"""Run a network up to a layer, so that a signal goes back to the image by changed rules.

A rule is a function that is called in the place of one of PyTorch's, such as a ReLU with another
backward pass. It applies wherever the network calls that function, so that any network will do.
Everything else keeps the gradient of autograd: convolutions and linear layers go back by their
plain transpose, without the bias; in a max-pool, each value returns to the position of its maximum.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from stagetransfer.errors import UserError
from stagetransfer.models import Backbone
from stagetransfer.models.accelerate import FASTER

_PLAIN = {faster: plain for plain, faster in FASTER.items()}
_HOOKS = [name for name, value in vars(nn.Module()).items() if "hook" in name and value == {}]


class Rules(TorchFunctionMode):
    """Calls other functions in the place of PyTorch's, which are found by their names.

    `called` has the names of all functions of PyTorch that were called, without a final underscore.
    """

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__()
        self.functions = functions
        self.called: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        self.called.add(name.rstrip("_"))
        return self.functions.get(name, func)(*args, **(kwargs or {}))


def layer_output(network: nn.Module, images: Tensor, layer: str | None, rules: Rules) -> Tensor:
    """Return the output (N, ...) of a module or of a backbone's block; None: of the network.

    The network computes in evaluation mode and no further than needed. Hooks do not run, and
    nothing in it changes. A module with parameters counts at its first call; one without, such as a
    ReLU that a block uses several times, at its last call in the module that holds it. UserError
    for an unknown layer, or one without an output.
    """
    found: list[Any] = []
    with _plain(network), rules, suppress(_Reached):
        if layer is not None:
            _stop_after(network, layer, found)
        result = network(images.clone())  # a function may work in place
        if layer is None:
            found.append(result)
    if not found or not isinstance(found[-1], Tensor):
        raise UserError(
            f"layer={layer}: the network does not call it, or it returns no tensor. Use another."
        )
    return found[-1]


class _Reached(Exception):
    """Ends the forward pass after the layer."""


@contextmanager
def _plain(network: nn.Module) -> Iterator[None]:
    """Let a network compute by PyTorch's own operators, without hooks, in evaluation mode.

    All attributes of all modules are restored. Parameters need no gradient meanwhile.
    """
    before = [(module, module.__class__, dict(vars(module))) for module in network.modules()]
    try:
        for module, kind, attributes in before:
            module.__class__ = _PLAIN.get(kind, kind)
            tensors = {
                name: {key: _normal(value) for key, value in attributes[name].items()}
                for name in ("_parameters", "_buffers")
            }
            vars(module).update(tensors, training=False, **{name: OrderedDict() for name in _HOOKS})
        yield
    finally:
        for module, kind, attributes in before:
            module.__class__ = kind
            vars(module).clear()
            vars(module).update(attributes)


def _normal(tensor: Tensor | None) -> Tensor | None:
    if tensor is None:
        return None
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def _stop_after(network: nn.Module, layer: str, found: list[Any]) -> None:
    """Keep a layer's outputs in `found`, and end the forward pass after it, within `_plain`."""
    net = network.net if isinstance(network, Backbone) else network
    modules = dict(net.named_modules(remove_duplicate=False))
    if layer not in modules or not layer:
        if not isinstance(network, Backbone):
            names = ", ".join(name for name, _ in net.named_children())
            raise UserError(f"layer={layer}: the network has no such layer. Use one of {names}.")
        module = network.module_of(layer)
        layer = next(name for name, one in modules.items() if one is module)
    module, (holder, _, name) = modules[layer], layer.rpartition(".")
    end = module if any(True for _ in module.parameters()) else modules[holder]
    if end is not module and type(end).forward is nn.Sequential.forward:
        length = list(end._modules).index(name) + 1
        end.__dict__["_modules"] = dict(islice(end._modules.items(), length))

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        # What runs up to the end may change the output in place.
        found.append(output.clone() if end is not module and torch.is_tensor(output) else output)

    def stop(module: nn.Module, inputs: Any, output: Any) -> None:
        if found:
            raise _Reached

    module.register_forward_hook(keep)
    end.register_forward_hook(stop)
