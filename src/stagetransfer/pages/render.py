"""Write the files of a report: report.md, report.html and each table as CSV and LaTeX.

report.html holds all its images, so that it can be sent as a single file.
"""

import base64
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from stagetransfer.figures import save_figure
from stagetransfer.files import atomic_path, csv_text, filled_folder, write_text
from stagetransfer.pages.blocks import Data, Plot, Section, Table
from stagetransfer.pages.latex import grid, tex

WRITTEN = "written.txt"  # the names of the files that a report has written
MEDIA = {".png": "image/png", ".svg": "image/svg+xml"}


def write_report(title: str, page: Sequence[Section], out: Path) -> None:
    """Write the page, its plots and its tables into `out`; each file is complete or absent."""

    def embedded(plot: Plot) -> str:
        file = out / plot.files[-1]
        return data_uri(file.read_bytes(), file.suffix)

    templates = page_templates(embedded)
    for block in (block for section in page for block in section.blocks):
        match block:
            case Plot(figure=Figure() as figure):
                save_figure(figure, out / "plots" / block.name)
            case Plot(figure=Path() as image):
                with atomic_path(out / block.files[0]) as part:
                    shutil.copyfile(image, part)
            case Table() | Data():
                write_text(out / "tables" / f"{block.name}.csv", csv_text(block.data))
        if isinstance(block, Table):
            text = templates.get_template("table.tex.jinja").render(table=block, grid=grid(block))
            write_text(out / "tables" / f"{block.name}.tex", text)
    for name in ("report.md", "report.html"):
        text = templates.get_template(f"{name}.jinja").render(title=title, sections=page)
        write_text(out / name, text)


def templates_of(*packages: str) -> Environment:
    """Return the templates of packages, which share their settings; those for HTML escape texts."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in packages]), undefined=StrictUndefined,
        autoescape=select_autoescape(["html.jinja"]),
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip


def page_templates(embedded: Callable[[Plot], str], *packages: str) -> Environment:
    """Return the templates of reports, and those of further packages.

    `embedded` returns the address of a plot's image.
    """
    templates = templates_of(*packages, "stagetransfer.pages")
    templates.filters.update(embedded=embedded, tex=tex, md=_markdown, lines=_html_lines)
    return templates


def data_uri(content: bytes, suffix: str) -> str:
    """Return an image as an address that holds it."""
    return f"data:{MEDIA[suffix]};base64,{base64.b64encode(content).decode('ascii')}"


def replace_report(
    title: str, page: Sequence[Section], out: Path, more: Mapping[str, str] | None = None
) -> None:
    """Write a report and `more` text files by name into `out`, completely or not at all.

    Tables and plots of an earlier report that the new one does not have are removed; a list of
    what a report has written is in `out`.
    """
    try:
        earlier = (out / WRITTEN).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        earlier = []
    with filled_folder(out) as part:
        for name, text in (more or {}).items():
            write_text(part / name, text)
        write_report(title, page, part)
        written = sorted(str(one.relative_to(part)) for one in part.rglob("*") if one.is_file())
        write_text(part / WRITTEN, "".join(f"{name}\n" for name in written))
    for name in {*earlier} - {*written}:
        if re.fullmatch(r"(tables|plots)/[^/]+\.(csv|tex|png|svg)", name):  # never a path elsewhere
            (out / name).unlink(missing_ok=True)


def _markdown(cell: str) -> str:
    safe = re.sub(r"([\\|*`]|<(?=[\w/!?])|(?<!\w)_|_(?!\w))", r"\\\1", cell)
    return safe.replace("\n", "<br>")


def _html_lines(cell: str) -> Markup:
    """Return a cell for HTML, with its further lines in small print."""
    first, *rest = (escape(line) for line in cell.split("\n"))
    return Markup("").join([first, *(Markup("<small>{}</small>").format(line) for line in rest)])
