"""The documented conversions of other programs' annotations: each gives the box of the tests."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ct_series import contents, labels, run, series, table

PAGE = (Path(__file__).parents[2] / "docs" / "extract.md").read_text()
SECTION = PAGE.partition("## Annotations of other programs")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"\*\*(.+?)\*\*.*?```\w+\n(.*?)```\s*```python\n(.*?)```", SECTION, re.S)


@pytest.mark.parametrize(("name", "example", "code"), EXAMPLES, ids=[one[0] for one in EXAMPLES])
def test_a_documented_conversion(tmp_path, name, example, code):
    (tmp_path / "example").write_text(example)
    call = [sys.executable, "-c", code, "example"]
    assert subprocess.run(call, cwd=tmp_path, capture_output=True, text=True).stderr == ""
    series(tmp_path / "in", uid="1.2.3.1")
    box = table(tmp_path / "a.csv", "slice,x,y,width,height,label", "1,20,10,64,32,GGO")
    names = ["--labels", labels(tmp_path, "GGO,GGO", "nodule,GGO")]
    for given, out in ((box, "box"), (tmp_path / "rois.csv", "out")):
        options = ["--annotations", given, *names, "--out", tmp_path / out]
        code, _, lines = run(tmp_path / "in", *options)
        assert (code, lines) == (0, [])
    assert contents(tmp_path / "out") == contents(tmp_path / "box")


def test_there_are_four():
    assert len(EXAMPLES) == 4
