"""Which detection systems are read, and how they are named."""

import pandas as pd
import pytest

from made_runs import make_run
from stagetransfer.errors import UserError
from stagetransfer.runs.froc_study import read_systems


def test_the_system_that_is_given_twice_is_named(tmp_path):
    (tmp_path / "lesions.csv").write_text("case,lesion\nc,l\n")
    first, twice = tmp_path / "first.csv", tmp_path / "twice.csv"
    for file in (first, twice):
        file.write_text("case,lesion,score\nc,l,1\n")
    with pytest.raises(UserError, match=r"^twice: given twice"):
        read_systems([first, twice, twice], tmp_path / "lesions.csv")


def test_runs_of_one_name_in_two_folders_are_two_systems(tmp_path):
    folders = [
        make_run(tmp_path / name, classes=("healthy", "nodule"), skill=skill)
        for name, skill in (("a", 0.5), ("b", 2.0))
    ]
    images = pd.read_csv(folders[0] / "predictions.csv")
    hit = images["group"].where(images["label"] == "nodule", "")
    table, lesions = tmp_path / "table.csv", tmp_path / "lesions.csv"
    pd.DataFrame({"file": images["id"], "lesion": hit}).to_csv(table, index=False)
    cases = pd.DataFrame({"case": images["group"], "lesion": hit}).drop_duplicates()
    cases.to_csv(lesions, index=False)
    systems, runs = read_systems(folders, lesions, table=table)
    assert list(systems) == list(runs) == list(map(str, folders))
