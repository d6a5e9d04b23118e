"""A run on one fold of a split file: its test set, record and name, and a changed file."""

import pandas as pd
import pytest

from conftest import SMALL
from stagetransfer.cli.run_summary import print_summary
from stagetransfer.cli.split import split
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.restore import restore_runs


def test_a_run_on_one_fold_of_a_split_file(compose_config, tmp_path, capsys):
    file = tmp_path / "folds.csv"
    split("embedded", out=file, folds=3, option=["scale=0.15"])

    def runner(fold):
        return ChainRunner(
            validate_config(
                compose_config(
                    *SMALL, "+experiment=scratch", "recipe.epochs=1", f"paths.outputs={tmp_path}",
                    f"domain.target.split_file={file}", f"domain.target.fold={fold}",
                )
            )
        )  # fmt: skip

    first, second = runner(1), runner(2)
    assert first.folder.name != second.folder.name
    folder = first.run()
    metrics = read_json(folder / "metrics.json")
    assert metrics["splits"] == {**first.stages[-1].data.split_file_record, "fold": 1, "folds": 3}
    table = pd.read_csv(file)
    held = table[table["fold"] == 1]
    tested = pd.read_csv(folder / "predictions.csv")
    assert set(tested["id"]) == set(held["id"])
    assert metrics["num_train"] + metrics["num_validation"] == len(table) - len(held)
    print_summary(folder)
    assert "fold 1 of 0 to 2" in " ".join(capsys.readouterr().out.split())
    assert restore_runs([folder])[0].data.split_file_record == metrics["splits"]
    table["fold"] = (table["fold"] + 1) % 3  # the same folds with other numbers
    table.to_csv(file, index=False)
    assert runner(1).folder.name not in (first.folder.name, second.folder.name)
    with pytest.raises(UserError, match=r"folds\.csv has changed since this run"):
        _ = restore_runs([folder])[0].data
