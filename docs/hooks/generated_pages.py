"""Pages that mkdocs makes from the code: the references of configuration, commands and API.

CONTRIBUTING.md and CHANGELOG.md are shown as pages too, and links to files of the repository that
are not pages become links to the repository.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import config_reference
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from stagetransfer.cli.app import app

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
                entry["API"] = [f"{API}/index.md", *(f"{API}/{name}.md" for name in subpackages())]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by mkdocs: add the generated pages."""
    pages = {
        "reference/configuration.md": config_reference.page(),
        "reference/commands.md": commands(),
        f"{API}/index.md": api_index(),
    }
    pages |= {f"{API}/{name}.md": api_page(name) for name in subpackages()}
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


def subpackages() -> list[str]:
    """Return the subpackages of stagetransfer by name."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def commands() -> str:
    """Return the page of the command line: every subcommand with its arguments and options."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="stagetransfer")
    page = get_docs_for_click(obj=command, ctx=context, name="stagetransfer", title="Commands")
    # The list of subcommands repeats the table of contents, with shortened sentences.
    return re.sub(r"\*\*Commands\*\*:.*?(?=^## )", "", str(page), flags=re.DOTALL | re.MULTILINE)


def api_index() -> str:
    """Return the page of the package itself and of the modules that all subpackages share."""
    names = public_names(PACKAGE / "__init__.py")
    links = [f"* [stagetransfer.{name}]({name}.md): {summary(name)}" for name in subpackages()]
    modules = sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("_"))
    shared = [name for name in modules if name != "api"]  # which the package itself exports
    options = """
    options:
      show_root_heading: true
      show_root_full_path: true
      show_root_toc_entry: true
"""
    return "\n".join(
        [
            f"# API\n\n{_reference('stagetransfer', names)}",
            "## Subpackages\n",
            *links,
            "\n## Shared modules\n",
            *(f"::: stagetransfer.{name}{options}      heading_level: 3\n" for name in shared),
        ]
    )


def api_page(name: str) -> str:
    """Return the page of a subpackage: its docstring and the names that it exports."""
    names = public_names(PACKAGE / name / "__init__.py")
    return f"# stagetransfer.{name}\n\n{_reference(f'stagetransfer.{name}', names)}"


def summary(name: str) -> str:
    """Return the first line of a subpackage's docstring."""
    tree = ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def public_names(path: Path) -> list[str]:
    """Return the strings of a module's `__all__`; empty without one."""
    for item in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "__all__":
            return [name for name in ast.literal_eval(item.value) if not name.startswith("_")]
    return []


def _reference(module: str, names: list[str]) -> str:
    options = f"    options:\n      show_root_heading: false\n      members: {names or 'false'}\n"
    return f"::: {module}\n{options}"
