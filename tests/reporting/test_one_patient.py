"""A test set of one patient per class: figures, and no word of how sure they are."""

import json
import re

import pandas as pd
from typer.testing import CliRunner

from made_runs import make_sweep
from stagetransfer.cli.app import app
from stagetransfer.statistics import classification_metrics


def report_on(outputs, **of_runs):
    make_sweep(outputs, ("scratch", "two_stage"), (0.2, 1.0), (0, 1), **of_runs)
    done = CliRunner().invoke(app, ["report", str(outputs)])
    assert done.exit_code == 0, done.output
    return (outputs / "report" / "report.md").read_text()


def test_one_patient_per_class(tmp_path):
    text = report_on(tmp_path, groups_per_class=1)
    assert "evidence" not in text
    assert not re.search(r"p-value|\bp\s*(=|<|\()", text)
    other = re.sub(r".*two ratios only.*", "", text)  # the textbook's interval, from runs alone
    assert not re.search(r"\[-?\d+\.\d+, -?\d+\.\d+\]", other)
    assert "two_stage - scratch: +" in text
    assert "only one group (patient) in CON, GGO, NOR" in text
    assert "More patients are needed" in text


def test_more_patients_per_class(tmp_path):
    text = report_on(tmp_path, groups_per_class=12)
    assert "evidence of a difference" in text
    assert "More patients are needed" not in text


def test_absent_classes_and_copies_are_limits(tmp_path):
    make_sweep(tmp_path, ("scratch", "two_stage"), (1.0,), (0, 1), groups_per_class=12)
    for folder in (tmp_path / "runs").iterdir():
        record = json.loads((folder / "metrics.json").read_text())
        pairs = {"across_splits": [["train/x.png", "test/y.png"]], "across_classes": []}
        record["identical_images"] = {"across_splits": 3, "across_classes": 0, "pairs": pairs}
        table = pd.read_csv(folder / "predictions.csv").query("label != 'GGO'")
        table.to_csv(folder / "predictions.csv", index=False)
        classes = record["classes"]
        labels, p = table["label"].map(classes.index), table[[f"p_{name}" for name in classes]]
        record["test"] = classification_metrics(labels.to_numpy(), p.to_numpy(), classes)
        (folder / "metrics.json").write_text(json.dumps(record))
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "report" / "report.md").read_text()
    assert "no test image of GGO: averages are over 2 of 3 classes" in text
    assert "3 images of the target have the same pixels as one in another split" in text
    assert "train/x.png and test/y.png" in text
