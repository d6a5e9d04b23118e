"""The settings that words of a command line stand for, as Hydra composes them."""

from collections.abc import Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from stagetransfer.config.schema import RunConfig
from stagetransfer.config.typed import INSTEAD
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError

_MOST_VALUES = 50  # of a key that are tried before a sweep


def compose_settings(words: Sequence[str]) -> RunConfig:
    """Return the checked settings of these overrides, such as "+experiment=two_stage".

    UserError if Hydra refuses an override, or a setting is impossible.
    """
    try:
        with initialize_config_module("stagetransfer.conf", version_base="1.3"):
            config = compose("config", overrides=list(words))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(refusal(error, words)) from error
    except ValueError as error:  # Hydra's, for a group that is a number or null
        raise UserError(f"{error}. Name a file of the group, or leave it out.") from error
    return validate_config(config)


def refusal(error: Exception, words: Sequence[str] = ()) -> str:
    """Return Hydra's message without its line breaks and without the config search path.

    A key that is nearly one of the config's is answered by that key. Of the words of the command
    line, the one is named that Hydra's grammar does not have.
    """
    if (word := _unreadable(words)) is not None:
        key, _, value = word.partition("=")
        return f"{word}: cannot be read. Such a value needs two quotes: \"{key}='{value}'\""
    cause: Any = error.__cause__
    node = getattr(cause, "parent_node", None)
    known = [*map(str, node.keys())] if isinstance(node, DictConfig) else []
    key = str(getattr(cause, "key", None))
    if other := INSTEAD.get(str(getattr(cause, "full_key", None))):
        return f"{cause.full_key}: there is no such key. Use {other}."
    if key not in known and (near := get_close_matches(key, known, 1)):
        return f"{cause.full_key}: there is no such key. Did you mean {near[0]}?"
    text = str(error).partition("Config search path")[0]
    if cause is not None and str(cause) not in text:
        text += f"\n{cause}"
    full_key = getattr(error, "full_key", None)
    if full_key and full_key not in text:
        text = f"{full_key}: {text}"
    lines = [line.strip() for line in text.splitlines()]
    details = ("object_type=", "reference_type=", "full_key:")  # what the rest says already
    kept = [line for line in lines if line and not line.startswith(details)]
    return "; ".join(line.removesuffix(".") for line in kept).replace(":;", ":")


def _unreadable(words: Sequence[str]) -> str | None:
    """Return the first override that Hydra's grammar does not have; None if it has them all."""
    parser = OverridesParser.create()
    for word in words:
        if "=" in word and not word.startswith("-"):
            try:
                parser.parse_override(word)
            except HydraException:
                return word
    return None


def as_override(key: str, text: str) -> str:
    """Return the override key=text, with quotes where Hydra would not read the text as it is."""
    word, parser = f"{key}={text}", OverridesParser.create()
    if _unreadable([word]) is None and parser.parse_override(word).value() == text:
        return word
    return f"{key}={QuotedString(text, Quote.single).with_quotes()}"


def check_sweep(words: Sequence[str]) -> None:
    """Raise UserError if one of the values that a sweep goes through is impossible on its own.

    Each value is tried with the first ones of all others, before the first job is trained. Where
    a required value is missing from these, because a sweeper adds it, nothing is checked.
    """
    parser, choices = OverridesParser.create(), list[list[str]]()
    for word in words:
        if "=" not in word or word.startswith(("-", "hydra", "+hydra")):
            continue
        override = parser.parse_override(word)
        values: list[str] = []
        if override.is_discrete_sweep():
            values = [*islice(override.sweep_string_iterator(), _MOST_VALUES)]
        key = override.get_key_element()
        choices.append([f"{key}={value}" for value in values] or [word])
    first = [choice[0] for choice in choices]
    try:
        compose_settings(first)
    except UserError as error:
        if isinstance(error.__cause__, MissingMandatoryValue):
            return
        raise
    for place, choice in enumerate(choices):
        for word in choice[1:]:
            try:
                compose_settings([*first[:place], word, *first[place + 1 :]])
            except UserError as error:
                raise UserError(f"{word}, in this sweep: {error}") from error
