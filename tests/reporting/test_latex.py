"""The tables for LaTeX: numbers aligned, intervals beside them, as many cells as columns."""

import re
import shutil
import subprocess

import pandas as pd
import pytest

from made_runs import make_run, make_sweep
from stagetransfer.pages.blocks import Table
from stagetransfer.pages.latex import grid, tex
from stagetransfer.reporting import make_report


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The .tex files of a report with few patients, a failed condition and unpleasant names."""
    outputs = tmp_path_factory.mktemp("outputs")
    classes = ("a|b_c", "50 % & {x}", "[z]")
    settings = {"groups_per_class": 6, "classes": classes}
    make_sweep(outputs, ("scratch", "natural"), (0.5, 1.0), (0, 1), **settings)
    make_run(outputs, "two_stage", dead=True, **settings)
    return sorted((make_report([outputs], count=50) / "tables").glob("*.tex"))


def test_a_number_and_its_interval_are_in_one_row():
    rows = [["two_stage", "+9.5\n[-0.8, 19.4]", "0.06", "0, 1"], ["b", "–", "< 0.001", "1"]]
    columns = ["pair", "points †", "p", "seeds"]
    found = grid(Table("t", "T", columns, rows, [], data=pd.DataFrame()))
    kinds = re.sub(r"\[[^]]*\]|@\{.*?\}|>\{.*?\}", "", found[0])
    assert kinds == "lSlSS"
    assert "table-format=+1.1," in found[0]
    assert found[1][1] == r"\multicolumn{2}{c}{points $\dagger$}"
    assert found[2][0] == [r"two\_stage", "+9.5 & {}[$-$0.8, 19.4]", "0.06", "{0, 1}"]
    assert found[2][1] == ["b", "{--} & ", r"{$<$ 0.001}", "1"]


def test_characters_that_latex_would_read():
    assert tex("two_stage - b: 5 %") == r"two\_stage - b: 5 \%"
    assert tex("-0.5 {x}") == r"$-$0.5 \{x\}"


def test_each_row_has_a_cell_for_each_column(tables):
    assert len(tables) > 10
    for file in tables:
        text = file.read_text()
        spec, body = re.search(
            r"\\begin\{tabular\}\{(.*)\}\n(.*)\\end\{tabular\}", text, re.S
        ).groups()
        count = len(re.sub(r"\[[^]]*\]|@\{.*?\}|>\{.*?\}", "", spec))
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert rows
        for row in rows:
            cells = len(re.split(r"(?<!\\)&", row)) + row.count(r"\multicolumn{2}")
            assert cells == count, (file.name, row)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_all_tables_compile_and_none_is_wider_than_the_page(tables, tmp_path):
    packages = r"\usepackage{booktabs,graphicx,siunitx,threeparttable}"
    inputs = "".join(rf"\input{{{file}}}\clearpage" + "\n" for file in tables)
    page = rf"\documentclass{{article}}{packages}\begin{{document}}" + f"\n{inputs}"
    (tmp_path / "all.tex").write_text(page + r"\end{document}")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert f"({len(tables)} pages" in done.stdout
    assert "Overfull" not in done.stdout
