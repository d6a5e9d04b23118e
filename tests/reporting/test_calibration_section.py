"""The calibration section of the report, which needs runs with validation predictions."""

import json

import numpy as np
import pandas as pd
import pytest

from made_runs import make_run
from plain_ece import plain_ece
from stagetransfer.reporting import make_report
from stagetransfer.statistics import apply_temperature, fit_temperature
from stagetransfer.statistics.metrics import image_losses


def write_validation(folder, factor):
    """Write validation predictions for a run, with logits that are `factor` times too large."""
    table = pd.read_csv(folder / "predictions.csv")
    columns = [name for name in table if name.startswith("p_")]
    logs = factor * np.log(np.clip(table[columns].to_numpy(), 1e-300, None))
    p = np.exp(logs - logs.max(1, keepdims=True))
    table[columns] = p / p.sum(1, keepdims=True)
    table["id"] = "validation/" + table["id"]
    table.to_csv(folder / "validation.csv", index=False)
    return table, columns


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("calibration")
    runs = [make_run(outputs, "scratch", 1.0, seed) for seed in (0, 1)]
    make_run(outputs, "two_stage", 1.0, 0)
    for run in runs:
        write_validation(run, 3.0)
    return make_report([outputs], count=100), runs


def test_table_and_diagram(report):
    folder, runs = report
    table = pd.read_csv(folder / "tables" / "calibration.csv")
    assert table["condition"].tolist() == ["scratch"]
    found, eces, classes = [], [], ["CON", "GGO", "NOR"]
    for run in runs:
        validation = pd.read_csv(run / "validation.csv")
        test = pd.read_csv(run / "predictions.csv")
        columns = [f"p_{name}" for name in classes]
        labels = [classes.index(name) for name in validation["label"]]
        found.append(fit_temperature(labels, np.log(validation[columns].to_numpy())))
        y = np.array([classes.index(name) for name in test["label"]])
        p = test[columns].to_numpy()
        eces.append((plain_ece(y, p), plain_ece(y, apply_temperature(p, found[-1]))))
    row = table.iloc[0]
    assert row["temperature"] == pytest.approx(np.mean(found))
    assert row["ece_trained"] == pytest.approx(np.mean([e[0] for e in eces]))
    assert row["ece_tempered"] == pytest.approx(np.mean([e[1] for e in eces]))
    assert row["ece_trained_low"] <= row["ece_trained"] <= row["ece_trained_high"]
    bins = pd.read_csv(folder / "tables" / "reliability.csv")
    assert bins.groupby("kind")["images"].sum().tolist() == [180, 180]
    assert (folder / "plots" / "reliability.png").is_file()


def test_runs_without_validation_predictions_are_counted(report):
    folder, _ = report
    assert "1 run without validation.csv" in (folder / "report.md").read_text()


def test_there_is_no_section_without_validation_predictions(tmp_path):
    make_run(tmp_path, "scratch", 1.0, 0)
    folder = make_report([tmp_path], count=50)
    assert "Calibration" not in (folder / "report.md").read_text()


def test_the_cross_entropy_is_that_of_table_2_also_for_impossible_labels(tmp_path):
    folder = make_run(tmp_path, "scratch", 1.0, 0)
    table = pd.read_csv(folder / "predictions.csv")
    row = table.index[table["label"] == table["prediction"]][0]
    columns = [name for name in table if name.startswith("p_")]
    table.loc[row, columns] = 0.0
    table.loc[row, next(n for n in columns if n != f"p_{table.loc[row, 'label']}")] = 1.0
    table.to_csv(folder / "predictions.csv", index=False)
    correct = (table[columns].idxmax(axis=1).str.removeprefix("p_") == table["label"]).mean()
    record = json.loads((folder / "metrics.json").read_text())
    labels = [list(columns).index(f"p_{name}") for name in table["label"]]
    losses = image_losses(np.array(labels), table[columns].to_numpy())
    record["test"] |= {"accuracy": correct, "cross_entropy": losses.mean()}
    (folder / "metrics.json").write_text(json.dumps(record))
    write_validation(folder, 1.0)
    tables = make_report([tmp_path], count=50) / "tables"
    main = pd.read_csv(tables / "table2.csv").set_index("figure")
    (calibrated,) = pd.read_csv(tables / "calibration.csv")["cross_entropy_trained"]
    assert calibrated == pytest.approx(main.loc["cross_entropy", "mean"], abs=1e-12)
