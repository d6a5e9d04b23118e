"""What the fuzz tests try: nasty values, and where they go: each key of the schema, each option."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import typer

from stagetransfer.cli.app import app
from stagetransfer.config.domain_settings import DomainSettings
from stagetransfer.config.schema import Config

# Values that no key and no option with a number may take, besides a negative number.
NO_NUMBERS = ("nan", "inf", "-inf", "1e400", "-1e400")
NUMBERS = ("-1", "0", "-3", "0.5", "1.5", "-0.5", "1e-320", "1e308", "1", "-1" + "0" * 30)
HUGE = ("1" + "0" * 20, "9" * 5000)
TEXTS = ("", " ", "abc", "x" * 5000, "a\x1b[31mb\x07", "a\nb", "ünïcødé", "日本\u202e", "=1+1", "-")
PATHS = ("../../x", "/dev/null", "/dev/zero", "{world}/pipe", "{world}/file.txt", "{world}")
WORDS = ("true", "null", "maybe")  # not quoted: Hydra's grammar decides
# Only for keys: Hydra's grammar and OmegaConf's interpolations.
NESTED = (
    "[]", "[1,[2,[3]]]", "{a:1}", "{a:{b:[1]}}", "[nan]", "[nan,nan,nan]", "[-1,-1,-1]", "[null]",
    "[abc]", "[[abc]]", "[[fc8,nan],['.*',1]]", "[[fc8,-1],['.*',1]]", "???",
    "${ratio}", "${nope}", "${oc.env:NOPE_FUZZ}", "${now:%Y}", "${",
    "{_target_:os.system,command:'touch PWNED'}", "{_target_:subprocess.Popen,args:[touch,PWNED]}",
    "{_target_:nope.nope}", "{_target_:torch.optim.SGD,lr:0.1}", "{a:{_target_:os.system}}",
)  # fmt: skip
ALL_STEPS = ("trainer.num_sanity_val_steps", "-1")  # the one negative number with a meaning
# Keys within the mappings of the schema, whose own keys no schema names.
MORE_KEYS = (
    "recipe.optimizer.lr", "recipe.optimizer.momentum", "recipe.optimizer.weight_decay",
    "recipe.optimizer._target_", "recipe.scheduler._target_", "callbacks.mine", "logger.mine",
    "stage.target.recipe.epochs", "stage.texture.transfer", "stage.texture.require_learning",
    "domain.target.options.table", "domain.target.options.nope",
)  # fmt: skip


def keys() -> list[str]:
    """All keys of the schema, and some of the mappings in it."""
    domain = list(_keys(DomainSettings, "domain.target."))
    return [*_keys(Config, ""), *domain, *MORE_KEYS]


def _keys(schema: Any, prefix: str) -> Iterator[str]:
    hints = get_type_hints(schema)
    for one in fields(schema):
        kind = hints[one.name]
        if is_dataclass(kind):
            yield from _keys(kind, f"{prefix}{one.name}.")
        else:
            yield prefix + one.name


def numbers() -> set[str]:
    """The keys that hold numbers alone."""
    found = set()
    schemas = [("", Config), ("domain.target.", DomainSettings)]
    for prefix, schema in schemas:
        hints = get_type_hints(schema)
        for name, kind in hints.items():
            if is_dataclass(kind):
                schemas.append((f"{prefix}{name}.", kind))
            elif kind in (int, float, int | None, float | None):
                found.add(prefix + name)
    return found


def overrides(world: Path) -> list[tuple[str, str]]:
    """Each key with each value, as Hydra's grammar writes it."""
    quoted = [_quoted(text) for text in (*TEXTS, *(path.format(world=world) for path in PATHS))]
    values = [*NO_NUMBERS, *NUMBERS, *HUGE, *WORDS, *NESTED, *quoted]
    return [(key, value) for key in keys() for value in values]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def options() -> list[tuple[str, str | int]]:
    """Each command with each of its options, by name, and arguments, by position."""
    found: list[tuple[str, str | int]] = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        found += [(name, position) for position in range(len(arguments))]
        found += [(name, one.opts[0]) for one in command.params if one.opts[0].startswith("--")]
    return found


def flags(name: str) -> set[str]:
    """The options of a command that take no value."""
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    return {option for one in command.params if getattr(one, "is_flag", 0) for option in one.opts}


def takes_number(name: str, option: str | int) -> bool:
    """Whether an option takes numbers alone."""
    if isinstance(option, int):
        return False
    (callback,) = (
        one.callback
        for one in app.registered_commands
        if (one.name or one.callback.__name__) == name
    )
    numbers = (int, float, int | None, float | None, list[int] | None, list[float] | None)
    hints = {"slice": list[int] | None, **get_type_hints(callback)}
    return hints[option.removeprefix("--").replace("-", "_")] in numbers


def words(world: Path) -> list[str]:
    """The values of options, as a shell passes them on."""
    paths = [path.format(world=world) for path in PATHS]
    return [*NO_NUMBERS, *NUMBERS, *HUGE, *WORDS, *TEXTS, *paths, "\udcff\udcfe", "1/2/3", "a=b"]
