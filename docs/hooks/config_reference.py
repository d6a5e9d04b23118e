"""The configuration reference as Markdown, made from `conf/` and `stagetransfer.config.schema`.

Keys, defaults and comments come from the YAML files. Types come from the dataclass of the schema
whose name begins with the group's name (`model` -> `Model`), and so do the keys that no YAML file
sets and the answer to "is this key part of a run's hash?".
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from stagetransfer.config import schema
from stagetransfer.config.domain_settings import DomainSettings

REPOSITORY = Path(__file__).resolve().parents[2]
CONF = REPOSITORY / "conf"

PLUGINS = REPOSITORY / "src/hydra_plugins"
"""Code that registers options of its own with Hydra's ConfigStore."""

ORDER = ("experiment", "sweep", "recipe", "model", "transfer", "domain", "trainer")
"""The groups that come first on the page; all others follow by name."""

INTERNAL = ("hydra/help", "hydra/hydra_logging", "hydra/job_logging")
"""Groups that change what Hydra prints, with nothing to choose."""

INTRODUCTION = """\
# Configuration reference

This page is generated from the files in `conf/` and from the schema when the site is built.
[Configuration](../configuration.md) explains how the parts work together.

`group=option` on the command line selects another file of a group, and `+group=option` a file of a
group that is not used by default. `key=value` sets one value. `python train.py --cfg job
<overrides>` prints the composed config of a command.

The column "in hash" says whether a key is part of a run's hash. Runs that differ only in other keys
have the same name and the same result.
"""


@dataclass(frozen=True)
class Key:
    """A setting: its name below the group, its default as YAML text, and its comment."""

    name: str
    default: str
    comment: str


@dataclass(frozen=True)
class Option:
    """A file of a config group."""

    name: str
    text: str

    @property
    def summary(self) -> str:
        """Return the first sentence of the comment at the top of the file."""
        lines = []
        for line in self.text.splitlines():
            if not line.startswith("#"):
                break
            if not line.startswith("# @package"):
                lines.append(line.removeprefix("#").strip())
        # A sentence ends at the end of a line, before two spaces or before a capital letter.
        header = "\n".join(lines)
        end = re.search(r"[.?](?=\n|\s{2}|\s[A-Z`]|$)", header)
        return " ".join((header[: end.end()] if end else header).split())

    @property
    def is_global(self) -> bool:
        """Return whether the file sets keys outside of its group."""
        return "# @package _global_" in self.text

    @property
    def bases(self) -> list[str]:
        """Return the names of the files that its defaults list adds to."""
        entries = (yaml.safe_load(self.text) or {}).get("defaults", [])
        return [entry for entry in entries if isinstance(entry, str)]


def page() -> str:
    """Return the whole page."""
    text = (CONF / "config.yaml").read_text(encoding="utf-8")
    parts = [INTRODUCTION, "## Top level\n", *_key_table(text, "", _settings("TopLevel"))]
    folders = {path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")}
    groups = folders - {".", *INTERNAL}
    for group in sorted(groups, key=lambda name: (_position(name), name)):
        parts += _group(group)
    return "\n".join(parts) + "\n"


def keys(text: str) -> list[Key]:
    """Return the keys of a YAML file in their order, nested keys with dots.

    The comment of a key is the text behind `#` on its line and on the more indented comment lines
    below it, or, if there is none, the comment lines directly above.
    """
    node = yaml.compose(text)
    return list(_walk(node, "", text.splitlines())) if isinstance(node, yaml.MappingNode) else []


def registered(group: str) -> list[tuple[str, str]]:
    """Return name and docstring of each option of a group that a plugin registers in its code."""
    found = []
    for path in sorted(PLUGINS.rglob("*.py")):
        items = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        texts = {i.name: ast.get_docstring(i) or "" for i in items if isinstance(i, ast.ClassDef)}
        for item in items:
            if isinstance(item, ast.Call) and ast.unparse(item.func).endswith(".store"):
                given = {word.arg: ast.unparse(word.value).strip("'") for word in item.keywords}
                if given.get("group") == group:
                    found.append((given["name"], texts[given["node"]].partition("\n")[0]))
    return found


def _position(group: str) -> int:
    first = group.split("/")[0]
    return ORDER.index(first) if first in ORDER else len(ORDER)


def _settings(class_name: str) -> type | None:
    """Return the dataclass of the schema whose name begins like this."""
    for name, item in {**vars(schema), "Domain": DomainSettings}.items():
        if name.startswith(class_name) and isinstance(item, type) and is_dataclass(item):
            return item
    return None


def _fields(settings: type | None) -> dict[str, Field[Any]]:
    return {field.name: field for field in fields(settings)} if settings else {}


def _group(group: str) -> list[str]:
    options = [
        Option(path.stem, path.read_text(encoding="utf-8"))
        for path in sorted((CONF / group).glob("*.yaml"))
    ]
    names = {option.name for option in options}
    bases = {"common", "default"} & names or {
        base for option in options for base in option.bases if base in names
    }
    parts = [f"## {group}\n"]
    for option in options:
        if option.name in bases and not option.is_global:
            prefix = "domain.<name>" if group == "domain" else group.replace("/", ".")
            settings = _settings(group.title())
            parts += [inspect.getdoc(settings) or "", ""] if settings else []
            parts += _key_table(option.text, f"{prefix}.", settings)
    rows = [(option.name, option.summary) for option in options if option.name != "common"]
    rows += registered(group)
    if rows:
        sign = "" if _is_default(group) else "+"
        parts += ["| option | what it is |", "|---|---|"]
        parts += [f"| `{sign}{group}={name}` | {_escape(text)} |" for name, text in rows]
        parts.append("")
    for option in options:
        parts += [f'??? note "conf/{group}/{option.name}.yaml"', "    ```yaml"]
        parts += [f"    {line}".rstrip() for line in option.text.splitlines()]
        parts += ["    ```", ""]
    return parts


def _is_default(group: str) -> bool:
    """Return whether conf/config.yaml, or Hydra itself, uses a file of the group by default."""
    defaults = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    return group.startswith("hydra/") or any(group in entry for entry in defaults)


def _key_table(text: str, prefix: str, settings: type | None) -> list[str]:
    """Return a table of a file's keys, followed by those that only the schema has."""
    own = _fields(settings)
    found = [key for key in keys(text) if key.name != "_partial_"]
    there = {key.name.split(".")[0] for key in found}
    if prefix:  # at the top level the further fields are the groups
        found += [Key(f.name, _default(f), "") for f in own.values() if f.name not in there]
    if not found:
        return []
    # A comment in the schema counts where the YAML file has none.
    source = inspect.getsource(settings) if settings else ""
    comments = dict(re.findall(r"^    (\w+): .*?  # (.+)$", source, re.MULTILINE))
    rows = ["| key | type | default | in hash | what it does |", "|---|---|---|---|---|"]
    group = _fields(_settings("TopLevel")).get(prefix.split(".")[0])
    for key in found:
        field = own.get(key.name)
        kind = _kind(_annotation(field)) if field else _kind_of_value(key.default)
        default = "*required*" if key.default == "???" else f"`{key.default}`" * bool(key.default)
        owner = own.get(key.name.split(".")[0], group)
        role = owner.metadata.get("role") if owner else None
        hashed = {"idle": "no", "decides": "yes", "place": "yes"}.get(str(role), "")
        comment = _escape(key.comment or comments.get(key.name, ""))
        cells = (f"`{prefix}{key.name}`", kind, default, hashed, comment)
        rows.append(f"| {' | '.join(cells)} |")
    return [*rows, ""]


def _annotation(field: Field[Any]) -> str:
    return field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)


def _walk(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[Key]:
    for name, value in node.value:
        full = prefix + name.value
        if full in ("defaults", "hydra"):
            continue
        block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        nested = block and isinstance(value, yaml.MappingNode)
        last = name.end_mark if block else value.end_mark
        comment = _comment(lines, name.start_mark, last)
        if nested:
            if comment:
                yield Key(full, "", comment)
            yield from _walk(value, f"{full}.", lines)
        else:
            text = lines[value.start_mark.line : value.end_mark.line + 1]
            if block:
                default = str(yaml.safe_load("\n".join(text)))
            else:
                text[-1] = text[-1][: value.end_mark.column]
                text[0] = text[0][value.start_mark.column :]
                default = " ".join(part.strip() for part in text)
            yield Key(full, default, comment)


def _comment(lines: list[str], start: yaml.Mark, end: yaml.Mark) -> str:
    trailing = re.search(r"#\s?(.*)", lines[end.line][end.column :])
    if trailing:
        found = [trailing[1]]
        for line in lines[end.line + 1 :]:
            if not line.strip().startswith("#") or line.index("#") <= start.column:
                break
            found.append(line.strip(" #"))
    else:
        found = []
        for line in reversed(lines[: start.line]):
            if not line.strip().startswith("#") or line.index("#") != start.column:
                break
            found.insert(0, line.strip(" #"))
        if len(found) == start.line:  # the comment at the top describes the file, not its first key
            found = []
    return " ".join(found)


def _kind(annotation: str) -> str:
    """Return a dataclass's annotation in words that a user of YAML knows."""
    choices = re.fullmatch(r"Literal\[(.*)\]( \| None)?", annotation)
    if choices:
        names = ", ".join(f"`{name.strip()}`" for name in choices[1].replace("'", "").split(","))
        return f"one of {names}" + (", or null" if choices[2] else "")
    kinds = {"bool": "true or false", "str": "text", "int": "whole number", "float": "number"}
    kinds |= {"None": "null", "Path": "path", "Any": "any value"}
    parts = []
    for part in annotation.split(" | "):
        if part.startswith(("list", "tuple")):
            parts.append("list")
        elif part.startswith(("dict", "Mapping")):
            parts.append("mapping")
        else:
            parts.append(kinds.get(part, f"`{part}`"))
    return " or ".join(parts)


def _kind_of_value(default: str) -> str:
    value = yaml.safe_load(default or "null")
    if isinstance(value, str):
        return "" if value == "???" else "text"
    return "" if value is None else _kind(type(value).__name__)


def _default(field: Field[Any]) -> str:
    """Return a field's default as YAML text."""
    if field.default_factory is not MISSING:
        value = field.default_factory()
    elif field.default is not MISSING:
        value = field.default
    else:
        return "???"
    if value == "???":
        return "???"
    text = yaml.safe_dump(value, default_flow_style=True, width=200)
    return str(text).removesuffix("\n").removesuffix("\n...")


def _escape(text: str) -> str:
    """Return the text with the special characters of Markdown escaped, except in code spans."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([|*_\[\]])", r"\\\1", parts[i].replace("<", "&lt;"))
    return "`".join(parts)
