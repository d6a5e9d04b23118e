"""The network that the settings of a run describe: AlexNet, or one of torchvision or timm."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from stagetransfer.config.schema import Model
from stagetransfer.errors import UserError, first_line
from stagetransfer.models.accelerate import accelerate
from stagetransfer.models.alexnet import LAYERS, AlexNet
from stagetransfer.models.backbone import Backbone, InputSpec
from stagetransfer.models.block_structure import arranged, parts, with_buffers
from stagetransfer.models.initialisation import initialise

# torchvision's families whose training needs auxiliary outputs, which are left out.
WITHOUT_AUXILIARY = {"googlenet": {"aux_logits": False, "init_weights": True}}
WITHOUT_AUXILIARY["inception_v3"] = WITHOUT_AUXILIARY["googlenet"]


def input_spec(model: Model) -> InputSpec:
    """Return the input that the settings state."""
    (r, g, b), (x, y, z) = model.mean, model.std
    return InputSpec(model.input_size, (r, g, b), (x, y, z))


def build_backbone(model: Model, num_classes: int) -> Backbone:
    """Return the network with the library's own initial values and our faster operators.

    UserError if there is no such network, or it cannot have these settings.
    """
    spec = input_spec(model)
    if model.library == "alexnet":
        backbone = alexnet_backbone(
            num_classes, model.variant, groups=model.groups, lrn_after_pool=model.lrn_after_pool,
            dropout=model.dropout, input=spec,
        )  # fmt: skip
    else:
        make = _timm_backbone if model.library == "timm" else _torchvision_backbone
        backbone = make(str(model.name), num_classes, spec, model.options)
    accelerate(backbone.net)
    return backbone


def alexnet_backbone(
    num_classes: int, variant: str = "paper", *, input: InputSpec | None = None, **options: Any
) -> Backbone:
    """Return a new `AlexNet` as a backbone; the options are those of the network."""
    input = input or InputSpec(227)
    return as_backbone(AlexNet(num_classes, variant, input_size=input.size, **options), input)


def as_backbone(net: AlexNet, input: InputSpec | None = None) -> Backbone:
    """Return the network as a backbone: its blocks are its layers, its classifier fc7 and fc8."""
    return Backbone(
        net,
        blocks={layer: [f"{layer}.weight", f"{layer}.bias"] for layer in LAYERS},
        head=LAYERS[-1],
        classifier=LAYERS[-2:],
        input=input or InputSpec(net.input_size),
        initialise=initialise,
        feature_map="pool5",
        taps={layer: f"relu{number}" for number, layer in enumerate(LAYERS[:-1], start=1)},
    )


def _torchvision_backbone(
    name: str, num_classes: int, input: InputSpec, options: Mapping[str, Any]
) -> Backbone:
    """Return a classifier of torchvision, such as resnet18, with its own initial values."""
    import torchvision.models as zoo

    if name not in zoo.list_models(module=zoo):
        raise _unknown(name, zoo.list_models(module=zoo), "torchvision")
    options = {**WITHOUT_AUXILIARY.get(name, {}), **options}
    build = partial(_built, zoo.get_model, name, num_classes, options)
    net = build()
    head = [n for n, one in net.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)][-1]
    channels = 3 if isinstance(net, zoo.SwinTransformer) else 1
    return _backbone(net, parts(net), [head], input, build, channels=channels)


def _timm_backbone(
    name: str, num_classes: int, input: InputSpec, options: Mapping[str, Any]
) -> Backbone:
    """Return a network of timm, such as convnext_tiny, with its own initial values."""
    import timm
    from timm.models import get_notrace_functions, get_notrace_modules, group_parameters

    if not timm.is_model(name):
        raise _unknown(name, timm.list_models(), "timm")
    build = partial(_built, timm.create_model, name, num_classes, options)
    net: Any = build()
    stated = net.pretrained_cfg
    if not hasattr(net, "group_matcher") or not stated.get("classifier"):
        raise UserError(f"model.name={name}: timm states no blocks of this network. Use another.")
    if input.size != stated["input_size"][-1] and stated.get("fixed_input_size"):
        options = {"img_size": input.size, **options}
        build = partial(_built, timm.create_model, name, num_classes, options)
        net = build()
    classifier = stated["classifier"]
    heads = [classifier] if isinstance(classifier, str) else [*classifier]
    try:
        matcher = net.group_matcher(coarse=True)
    except AssertionError:  # of rdnet, whose only grouping is one of stages
        matcher = net.group_matcher()
    groups = group_parameters(net, matcher)
    return _backbone(
        net, with_buffers(net, groups.values()), heads, input, build,
        channels=3 if getattr(net, "output_fmt", None) == "NHWC" else 1,
        leaves=list(get_notrace_modules()),  # type: ignore[no-untyped-call]
        functions=list(get_notrace_functions()),  # type: ignore[no-untyped-call]
    )  # fmt: skip


def _backbone(
    net: nn.Module,
    groups: Sequence[Sequence[str]],
    heads: Sequence[str],
    input: InputSpec,
    build: Callable[[], nn.Module],
    **options: Any,
) -> Backbone:
    blocks = arranged(net, groups, heads)

    def initialise_blocks(net: nn.Module, names: Sequence[str], scheme: str, seed: int) -> None:
        """Copy the blocks of a new network, which the library has initialised."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            new = build()
        values = {**dict(new.named_parameters()), **dict(new.named_buffers())}
        own = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        for block in names:
            for name in blocks[block]:
                own[name].copy_(values[name])

    return Backbone(
        net, blocks=blocks, head=heads[0], classifier=[list(blocks)[-1]], input=input,
        initialise=initialise_blocks, **options,
    )  # fmt: skip


def _built(
    make: Callable[..., nn.Module], name: str, num_classes: int, options: Mapping[str, Any]
) -> nn.Module:
    try:
        return make(name, num_classes=num_classes, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UserError(
            f"model.name={name}, model.options={dict(options)}: the network cannot be made "
            f"({first_line(error)}). Change an option."
        ) from error


def _unknown(name: str, known: Iterable[str], library: str) -> UserError:
    near = difflib.get_close_matches(name, list(known), 3)
    hint = f"Did you mean {', '.join(near)}?" if near else f"See {library}'s list of models."
    return UserError(f"model.name={name}: {library} has no such network. {hint}")
