"""The settings that words of a command line stand for, as Hydra composes them."""

from collections.abc import Sequence

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from stagetransfer.config.schema import RunConfig
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError


def compose_settings(words: Sequence[str]) -> RunConfig:
    """Return the checked settings of these overrides, such as "+experiment=two_stage".

    UserError if Hydra refuses an override, or a setting is impossible.
    """
    try:
        with initialize_config_module("stagetransfer.conf", version_base="1.3"):
            config = compose("config", overrides=list(words))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(refusal(error)) from error
    return validate_config(config)


def refusal(error: Exception) -> str:
    """Return Hydra's message without its line breaks and without the config search path."""
    text = str(error).partition("Config search path")[0]
    if error.__cause__ is not None and str(error.__cause__) not in text:
        text += f"\n{error.__cause__}"
    key = getattr(error, "full_key", None)
    if key and key not in text:
        text = f"{key}: {text}"
    lines = [line.strip() for line in text.splitlines()]
    details = ("object_type=", "reference_type=", "full_key:")  # what the rest says already
    kept = [line for line in lines if line and not line.startswith(details)]
    return "; ".join(line.removesuffix(".") for line in kept).replace(":;", ":")
