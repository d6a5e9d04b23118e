"""The blocks of a network, from the names of its modules: ordered, and named as its authors do."""

from collections.abc import Iterable, Sequence
from itertools import takewhile

from torch import nn

# Modules that only hold the parts of a network in order; their children are its parts.
_CONTAINERS = (
    "features", "blocks", "stages", "layers", "encoder", "trunk_output", "classifier", "head",
    "heads",
)  # fmt: skip
# The start of some parts' names, which is left out of the names of blocks.
_LEFT_OUT = ("features.", "encoder.layers.", "trunk_output.")


def tensor_names(net: nn.Module) -> list[str]:
    """Return the names of all parameters and buffers, in the order of the modules."""
    return [
        f"{module_name}.{name}" if module_name else name
        for module_name, module in net.named_modules()
        for name, value in [*module._parameters.items(), *module._buffers.items()]
        if value is not None
    ]


def other_names(net: nn.Module) -> dict[str, str]:
    """Return the further names of tensors of shared modules, each with the first name."""
    first_of: dict[nn.Module, str] = {}
    found = {}
    for path, module in net.named_modules(remove_duplicate=False):
        first = first_of.setdefault(module, path)
        if path != first:
            for name in (*module._parameters, *module._buffers):
                found[f"{path}.{name}"] = f"{first}.{name}" if first else name
    return found


def part_of(name: str) -> str:
    """Return the part of a network that a tensor is in: a child, or the child of a container."""
    words = name.split(".")[:-1]
    depth = next((i for i, word in enumerate(words) if word not in _CONTAINERS), len(words))
    return ".".join(words[: depth + 1])


def parts(net: nn.Module) -> list[list[str]]:
    """Return the tensors of each part of a network, in order."""
    found: dict[str, list[str]] = {}
    for name in tensor_names(net):
        found.setdefault(part_of(name), []).append(name)
    return list(found.values())


def with_buffers(net: nn.Module, groups: Iterable[Sequence[str]]) -> list[list[str]]:
    """Add each buffer to the group of the parameter whose name is most like its own."""
    result = [list(group) for group in groups]
    group_of = {name: number for number, group in enumerate(result) for name in group}
    parameters = list(group_of)
    for name in tensor_names(net):
        if name not in group_of:
            nearest = max(parameters, key=lambda one: _shared_words(one, name))
            result[group_of[nearest]].append(name)
    return result


def _shared_words(a: str, b: str) -> int:
    pairs = zip(a.split("."), b.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def arranged(
    net: nn.Module, groups: Iterable[Sequence[str]], heads: Sequence[str]
) -> dict[str, list[str]]:
    """Return the tensors of each block by its name, from groups of tensors in order.

    The head, the last block, has the tensors of the modules `heads` alone. A group that only
    normalises joins the one before it. Tensors of the network itself or of a container, such as
    the tokens of a vision transformer, are in the first block.
    """
    parameters = dict(net.named_parameters(remove_duplicate=False))
    tokens: list[str] = []
    merged: list[list[str]] = []
    head: list[str] = []
    for group in groups:
        rest: list[str] = []
        for name in group:
            if any(name.startswith(f"{module}.") for module in heads):
                head.append(name)
            elif all(word in _CONTAINERS for word in name.split(".")[:-1]):
                tokens.append(name)
            else:
                rest.append(name)
        # What only normalises has no parameter of two dimensions.
        if merged and all(parameters[name].dim() < 2 for name in rest if name in parameters):
            merged[-1] += rest
        elif rest:
            merged.append(rest)
    merged[0] = tokens + merged[0]
    firsts = [next(name for name in group if name not in tokens) for group in merged]
    parts_of = [{part_of(name) for name in group if name not in tokens} for group in merged]
    found = [part_of(name) for name in firsts]
    # Blocks of one part, such as levels.0 and levels.1 of `levels`, take more words of their names.
    while doubled := {name for name in found if found.count(name) > 1}:
        found = [
            ".".join(first.split(".")[: name.count(".") + 2]) if name in doubled else name
            for name, first in zip(found, firsts, strict=True)
        ]
    if len({part.split(".")[0] for part in parts_of[0]}) > 1:
        found[0] = "stem"
    for left_out in _LEFT_OUT:
        found = [
            name.removeprefix(left_out) if not name[len(left_out) :][:1].isdigit() else name
            for name in found
        ]
    return {**dict(zip(found, merged, strict=True)), heads[0]: head}
