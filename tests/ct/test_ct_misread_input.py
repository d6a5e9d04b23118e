"""Input that could be misread without a word: it is refused, or a note names it."""

import json

import pytest
from ct_series import ROOT, contents, run, series, table

from stagetransfer.ct import PatchSettings, Problems, find_series
from stagetransfer.errors import UserError
from stagetransfer.inference.prediction_input import find_input

POINT = "series,instance,x,y,label", "1,100,40,40,NOR"


def found(folder, **options):
    problems = Problems()
    volumes, _ = find_series(folder, problems, **options)
    return volumes, problems


def check(tmp_path, *options):
    """Return the exit code and the lines of standard error of a count."""
    given = table(tmp_path / "a.csv", *POINT)
    code, _, lines = run(tmp_path / "in", "--annotations", given, "--check", *options)
    return code, lines


@pytest.mark.parametrize("other", ["p 1", "P  1", "P 01.0"])
def test_two_spellings_of_a_patient(tmp_path, other):
    series(tmp_path / "in" / "a", patient="P 1")
    series(tmp_path / "in" / "b", patient=other, uid=f"{ROOT}.2", number=2)
    if other == "P 01.0":  # only a whole name is a number
        assert check(tmp_path)[0] == 0
        return
    code, [line] = check(tmp_path, "--skip-bad")
    assert code == 2
    assert "a/00.dcm" in line
    assert "b/00.dcm" in line
    assert other not in line
    assert run(tmp_path / "in", "--check")[0] == 2
    with pytest.raises(UserError, match="a/00.dcm"):
        find_input(tmp_path / "in", PatchSettings(), Problems())
    assert check(tmp_path, "--patient", "folder")[0] == 0


def test_a_series_uid_of_two_patients_is_noted(tmp_path):
    for number, patient in enumerate(("anon0", "anon1")):
        series(tmp_path / "in" / str(number), patient=patient)
    given = table(tmp_path / "a.csv", "series,patient,instance,x,y,label", "1,anon0,99,40,40,NOR")
    code, _, lines = run(tmp_path / "in", "--annotations", given, "--out", tmp_path / "out")
    assert code == 0
    assert len(lines) == 1
    assert lines[0].startswith("note: series of 0/00.dcm: ")
    assert "1/00.dcm" in lines[0]
    summary = json.loads(contents(tmp_path / "out")["summary.json"])
    assert summary["noted"] == {"series UIDs of several patients": 1}
    assert summary["left_out"] == {}
