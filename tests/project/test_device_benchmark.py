"""The benchmark of a GPU, tried on the CPU: all of its tables, in the file too."""

import re
import sys

from conftest import REPOSITORY


def test_the_tables_of_a_device(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(REPOSITORY))
    from benchmarks.__main__ import main

    words = ["--device", "cpu", "--network", "timm:test_vit", "--batch", "2", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words, "--out", str(tmp_path / "out")])
    main()
    written = (tmp_path / "out" / "RESULTS.md").read_text()
    assert written in capsys.readouterr().out
    rows = re.findall(r"^\| (timm:test_vit[^|]*?) +\|(.*)\|$", written, re.MULTILINE)
    assert [name.removeprefix("timm:test_vit, ") for name, _ in rows] == [
        "2, float32", "2, bfloat16", "2", "float32", "bfloat16",
    ]  # fmt: skip
    exact, rounded = (float(cells.split("|")[0]) for _, cells in rows[-2:])
    assert exact < 1e-5 < rounded < 5e-2
