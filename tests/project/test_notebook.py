"""The tutorial notebook runs from top to bottom, on little data."""

import nbformat
import pytest
from nbclient import NotebookClient

from conftest import REPOSITORY, SMALL

# The whole target, because the tutorial takes a fifth of it.
LITTLE = [word for word in SMALL if "target.options.scale" not in word]


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    notebook = nbformat.read(REPOSITORY / "docs" / "tutorial.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (settings,) = [cell for cell in cells if "SETTINGS =" in cell.source]
    settings.source += f"\nSETTINGS += {LITTLE}"
    client = NotebookClient(
        notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    assert (tmp_path / "outputs" / "report" / "report.html").is_file()
    (frame,) = [cell for cell in cells if "to_frame" in cell.source]
    assert "two_stage" in frame.outputs[-1]["data"]["text/plain"]
