"""Pages that mkdocs makes from the code: the configuration reference and the API reference.

CONTRIBUTING.md and CHANGELOG.md are shown as pages too, and links to files of the repository that
are not pages become links to the repository.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import config_reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src/stagetransfer"
PROJECT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
API = "reference/api"

LINK = re.compile(r"(?<=\]\()\.\./([^)#\s]+)")
"""The target of a Markdown link that leaves docs/."""


def on_config(config: MkDocsConfig) -> None:
    """Called by mkdocs: add the API pages to the navigation."""
    for section in config.nav or ():
        for entry in section.get("Reference", ()) if isinstance(section, dict) else ():
            if "API" in entry:
                entry["API"] = [f"{API}/index.md", *(f"{API}/{room}.md" for room in rooms())]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by mkdocs: add the generated pages."""
    pages = {"reference/configuration.md": config_reference.page(), f"{API}/index.md": api_index()}
    pages |= {f"{API}/{room}.md": api_page(room) for room in rooms()}
    for name in PROJECT_PAGES:
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        pages[name] = text.replace("](docs/", "](")
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Called by mkdocs: turn links out of docs/ into links to the repository."""
    if page.file.src_uri.startswith("reference/"):
        return markdown

    def to_repository(match: re.Match[str]) -> str:
        target = match[1]
        if target in PROJECT_PAGES:
            return target
        if not (REPOSITORY / target).exists():
            raise PluginError(f"{page.file.src_uri}: the link to ../{target} leads nowhere.")
        return f"{config.extra['repository']}/blob/main/{target}"

    return LINK.sub(to_repository, markdown)


def rooms() -> list[str]:
    """Return the subpackages of stagetransfer by name."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def api_index() -> str:
    """Return the page of the package itself and of the modules that all rooms share."""
    shared = sorted(p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("_"))
    links = "\n".join(f"* [stagetransfer.{r}]({r}.md): {summary(r)}" for r in rooms())
    parts = ["# API", "", "::: stagetransfer", "    options:", "      show_root_heading: false"]
    parts += [f"      members: {public_names(PACKAGE / '__init__.py')}", "", "## Rooms", "", links]
    parts += ["", "## Modules that all rooms share", ""]
    for name in shared:
        parts += [f"::: stagetransfer.{name}", ""]
    return "\n".join(parts)


def api_page(room: str) -> str:
    """Return the page of a room: its docstring and the names that it exports."""
    names = public_names(PACKAGE / room / "__init__.py")
    options = f"    options:\n      show_root_heading: false\n      members: {names or 'false'}\n"
    return f"# stagetransfer.{room}\n\n::: stagetransfer.{room}\n{options}"


def summary(room: str) -> str:
    """Return the first line of a room's docstring."""
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def public_names(path: Path) -> list[str]:
    """Return the strings of a module's `__all__`; empty without one."""
    for item in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(item.value)]
    return []
