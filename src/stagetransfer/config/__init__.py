"""The settings of a run: schema, validation, identity, and the objects that they name."""

from stagetransfer.config.schema import Config, RunConfig, Stage
from stagetransfer.config.validate import validate_config

__all__ = ["Config", "RunConfig", "Stage", "validate_config"]
