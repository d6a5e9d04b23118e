"""The network that the settings of a run describe."""

from stagetransfer.config.schema import Model
from stagetransfer.models.accelerate import accelerate
from stagetransfer.models.alexnet import alexnet_backbone
from stagetransfer.models.backbone import Backbone, InputSpec
from stagetransfer.models.library_networks import timm_backbone, torchvision_backbone


def input_spec(model: Model) -> InputSpec:
    """Return the input that the settings state."""
    (r, g, b), (x, y, z) = model.mean, model.std
    return InputSpec(model.input_size, (r, g, b), (x, y, z))


def build_backbone(model: Model, num_classes: int, *, winograd: bool = True) -> Backbone:
    """Return the network with the library's own initial values and our faster operators.

    Args:
        winograd: see `accelerate`.

    Raises:
        UserError: there is no such network, or it cannot have these settings.
    """
    spec = input_spec(model)
    if model.library == "alexnet":
        backbone = alexnet_backbone(
            num_classes, model.variant, groups=model.groups, lrn_after_pool=model.lrn_after_pool,
            dropout=model.dropout, input=spec,
        )  # fmt: skip
    else:
        make = timm_backbone if model.library == "timm" else torchvision_backbone
        backbone = make(str(model.name), num_classes, spec, model.options)
    accelerate(backbone.net, winograd=winograd)
    return backbone
