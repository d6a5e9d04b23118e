"""A series and the data set of one box on it, which every kind of annotation must give."""

import pytest
from ct_series import contents, run, series, table


@pytest.fixture
def scans(tmp_path):
    return series(tmp_path / "in" / "P1" / "scan")


@pytest.fixture
def box(tmp_path, scans):
    """Return the data set of a box of 64 x 32 pixels on slice 1, which holds two patches."""
    given = table(tmp_path / "a.csv", "slice,x,y,width,height,label", "1,20,10,64,32,GGO")
    assert run(tmp_path / "in", "--annotations", given, "--out", tmp_path / "box")[0] == 0
    return contents(tmp_path / "box")
