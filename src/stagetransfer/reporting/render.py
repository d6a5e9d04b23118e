"""Blocks into files: report.md, report.html with all in it, each table as CSV and TeX."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from stagetransfer.files import write_text
from stagetransfer.reporting.blocks import Data, Plot, Section, Table

MEDIA = {".png": "image/png", ".svg": "image/svg+xml"}

TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "–": "--", "²": "$^2$", "†": r"\dag{}", "…": r"\dots{}",
}  # fmt: skip


def write_report(title: str, page: Sequence[Section], out: Path) -> None:
    """Writes the page and its tables into `out`, each file whole."""
    for section in page:
        for block in section.blocks:
            if isinstance(block, Table | Data):
                _write_table(block, out / "tables")
    write_text(out / "report.md", _environment(out).get_template("report.md.jinja")
                     .render(title=title, sections=page))  # fmt: skip
    html = _environment(out, html=True).get_template("report.html.jinja")
    write_text(out / "report.html", html.render(title=title, sections=page))


def _write_table(table: Table | Data, folder: Path) -> None:
    write_text(folder / f"{table.name}.csv", table.frame.to_csv(index=False))
    if isinstance(table, Table):
        template = _environment(folder).get_template("table.tex.jinja")
        write_text(folder / f"{table.name}.tex", template.render(table=table))


def _environment(out: Path, html: bool = False) -> Environment:
    environment = Environment(
        loader=PackageLoader("stagetransfer.reporting"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    def embedded(plot: Plot) -> str:
        """The picture itself as a data URL."""
        file = out / plot.files[-1]
        content = base64.b64encode(file.read_bytes()).decode("ascii")
        return f"data:{MEDIA[file.suffix]};base64,{content}"

    filters = {"embedded": embedded, "tex": tex, "md": _md, "lines": _lines}
    environment.filters.update(filters)
    return environment


def tex(cell: str) -> str:
    """Text for LaTeX; a minus before a digit becomes one, a second line stands below.

    Braces keep a bracket at the start of a line from being taken for an argument of the row's end.
    """
    lines = []
    for line in cell.split("\n"):
        safe = "".join(TEX.get(c, c) for c in line)
        safe = re.sub(r"(?<![\w.])-(?=\d)", "$-$", safe)
        lines.append(re.sub(r"^\[", "{}[", safe))
    return lines[0] if len(lines) == 1 else r"\shortstack{" + r" \\ ".join(lines) + "}"


def _md(cell: str) -> str:
    """Text for a cell or line of Markdown."""
    safe = re.sub(r"([\\|*`]|<(?=[\w/!?])|(?<!\w)_|_(?!\w))", r"\\\1", cell)
    return safe.replace("\n", "<br>")


def _lines(cell: str) -> Markup:
    """A cell of HTML: its further lines small."""
    first, *rest = (escape(line) for line in cell.split("\n"))
    return Markup("").join([first, *(Markup("<small>{}</small>").format(line) for line in rest)])
