"""The configuration reference as Markdown, made from `conf/` and the dataclasses of the schema.

Keys, defaults and comments come from the YAML files; types come from the dataclass whose name
begins with the group's name (`model` -> `Model`). Both are read as text: nothing is imported, so
the documentation builds without PyTorch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CONF = REPOSITORY / "conf"
SCHEMAS = tuple(
    REPOSITORY / "src/stagetransfer" / name for name in ("config/schema.py", "data/settings.py")
)

PLUGINS = REPOSITORY / "src/hydra_plugins"
"""Code that registers config files of its own with Hydra's ConfigStore."""

ORDER = ("experiment", "sweep", "recipe", "model", "transfer", "domain", "trainer")
"""The groups that come first on the page; all others follow by name."""

INTRODUCTION = """\
# Configuration reference

This page is generated from the files in `conf/` and from the schema when the site is built.
[Configuration](../configuration.md) explains how the parts work together.

`group=option` on the command line selects another file of a group. `key=value` sets one value.
`python train.py --cfg job <overrides>` prints the composed config of a command.
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
        end = re.search(r"\.(?=\n|\s{2}|\s[A-Z`]|$)", header)
        return " ".join((header[: end.end()] if end else header).split())

    @property
    def bases(self) -> list[str]:
        """Return the names of the files that its defaults list adds to."""
        entries = (yaml.safe_load(self.text) or {}).get("defaults", [])
        return [entry for entry in entries if isinstance(entry, str)]


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION, "## Top level\n", *_key_table(CONF / "config.yaml", "", "RunConfig")]
    folders = {path.parent for path in CONF.rglob("*.yaml")} - {CONF}
    groups = sorted(folder.relative_to(CONF).as_posix() for folder in folders)
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


def schema() -> dict[str, dict[str, tuple[str, str]]]:
    """Return type and default, as source text, of each field of each dataclass of the schema."""
    result: dict[str, dict[str, tuple[str, str]]] = {}
    for path in SCHEMAS:
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
        for item in ast.walk(tree):
            if isinstance(item, ast.ClassDef):
                result[item.name] = {
                    field.target.id: (
                        ast.unparse(field.annotation),
                        ast.unparse(field.value) if field.value else "???",
                    )
                    for field in item.body
                    if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                }
    return result


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


def _group(group: str) -> list[str]:
    options = [
        Option(path.stem, path.read_text(encoding="utf-8"))
        for path in sorted((CONF / group).glob("*.yaml"))
    ]
    names = {option.name for option in options}
    shared = {"common", "default"} & names or {
        base for option in options for base in option.bases if base in names
    }
    parts = [f"## {group}\n"]
    if group not in ("experiment", "sweep"):
        for name in sorted(shared):
            prefix = "domain.<name>." if group == "domain" else f"{group.replace('/', '.')}."
            parts += _key_table(CONF / group / f"{name}.yaml", prefix, group.title())
    selectable = [option for option in options if option.name != "common"]
    if selectable:
        parts += ["| option | what it is |", "|---|---|"]
        sign = "+" if group in ("experiment", "sweep") else ""
        parts += [
            f"| `{sign}{group}={option.name}` | {_escape(option.summary)} |"
            for option in selectable
        ]
        parts += [f"| `{group}={name}` | {_escape(text)} |" for name, text in registered(group)]
        parts.append("")
    for option in options:
        parts += [f'??? note "conf/{group}/{option.name}.yaml"', "    ```yaml"]
        parts += [f"    {line}".rstrip() for line in option.text.splitlines()]
        parts += ["    ```", ""]
    return parts


def _key_table(path: Path, prefix: str, class_name: str) -> list[str]:
    """Return a table of a file's keys, followed by those that only the schema has."""
    dataclasses = schema()
    fields = next((dataclasses[n] for n in dataclasses if n.startswith(class_name)), {})
    found = [key for key in keys(path.read_text(encoding="utf-8")) if key.name != "_partial_"]
    if class_name != "RunConfig":  # whose fields are also the groups and what follows from them
        there = {key.name.split(".")[0] for key in found}
        found += [
            Key(name, _from_source(default), "")
            for name, (_, default) in fields.items()
            if name not in there
        ]
    if not found:
        return []
    rows = ["| key | type | default | what it does |", "|---|---|---|---|"]
    for key in found:
        kind = _kind(fields[key.name][0]) if key.name in fields else _kind_of_value(key.default)
        default = "*required*" if key.default == "???" else f"`{key.default}`" * bool(key.default)
        rows.append(f"| `{prefix}{key.name}` | {kind} | {default} | {_escape(key.comment)} |")
    return [*rows, ""]


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


def _from_source(default: str) -> str:
    """Return a default of a dataclass field as YAML text."""
    match = re.search(r"default(?:_factory)?=(?:lambda: )?([^,()]+|\[.*?\])", default)
    text = match[1] if match else default
    return {"None": "null", "True": "true", "False": "false", "list": "[]", "dict": "{}"}.get(
        text, text
    )


def _escape(text: str) -> str:
    """Return the text with the special characters of Markdown escaped, except in code spans."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([|*_\[\]])", r"\\\1", parts[i].replace("<", "&lt;"))
    return "`".join(parts)
