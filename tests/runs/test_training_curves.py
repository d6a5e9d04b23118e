"""Validation curves are read from the files of Lightning's CSVLogger."""

import pytest

from made_runs import add_learning_curve, make_run, write_metrics_csv
from stagetransfer.errors import UserError
from stagetransfer.runs.reader import read_runs
from stagetransfer.runs.training_curves import validation_curve


def accuracies(*values):
    return {10 * i + 9: {"validation/accuracy": value} for i, value in enumerate(values)}


def curve_of(folder):
    (run,), _ = read_runs([folder])
    return validation_curve(run)


def test_a_curve_has_one_row_per_epoch(tmp_path):
    folder = make_run(tmp_path, "two_stage")
    add_learning_curve(folder, epochs=3)
    curve = curve_of(folder)
    assert list(curve.columns) == ["epoch", "batches", "cross_entropy", "accuracy"]
    assert curve["epoch"].tolist() == [1, 2, 3]
    assert curve["batches"].tolist() == [10, 20, 30]
    assert curve["accuracy"].tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert curve["cross_entropy"].tolist() == pytest.approx([1, 1 / 2, 1 / 3])


def test_metrics_of_one_epoch_may_be_in_several_rows(tmp_path):
    folder = make_run(tmp_path)
    file = folder / "logs" / "1-target" / "metrics.csv"
    file.parent.mkdir(parents=True)
    file.write_text(
        "epoch,step,train/cross_entropy,validation/accuracy,validation/auroc\n"
        "0,9,,0.5,\n0,9,,,0.75\n0,12,2.0,,\n1,19,1.0,,\n"
    )
    assert curve_of(folder).to_dict("records") == [
        {"epoch": 1, "batches": 10, "accuracy": 0.5, "auroc": 0.75}
    ]


def test_after_an_interruption_the_later_row_of_an_epoch_counts(tmp_path):
    folder = make_run(tmp_path)
    # The files in time: ten interruptions, so that "metrics-10" must not come before "metrics-2".
    write_metrics_csv(folder, accuracies(0.1, 0.2, 0.3), "metrics-1.csv")
    for number in range(2, 10):
        write_metrics_csv(folder, accuracies(0.4), f"metrics-{number}.csv", epoch=1)
    write_metrics_csv(folder, accuracies(0.5), "metrics-10.csv", epoch=1)
    write_metrics_csv(folder, accuracies(0.6), "metrics.csv", epoch=2)
    assert curve_of(folder)["accuracy"].tolist() == pytest.approx([0.1, 0.5, 0.6])


def test_a_run_of_an_earlier_version_has_no_curve(tmp_path):
    folder = make_run(tmp_path)
    (folder / "tensorboard" / "1-target").mkdir(parents=True)
    assert curve_of(folder).empty


def test_an_interruption_before_the_first_row_leaves_an_empty_file(tmp_path):
    folder = make_run(tmp_path)
    write_metrics_csv(folder, accuracies(0.5))
    (folder / "logs" / "1-target" / "metrics-1.csv").write_text("")
    assert curve_of(folder)["accuracy"].tolist() == [0.5]


@pytest.mark.parametrize("text", ["epoch,step\n1,9\n1,9,9\n", "step,validation/accuracy\n9,0.5\n"])
def test_an_unreadable_file_is_refused_in_one_line(tmp_path, text):
    folder = make_run(tmp_path)
    write_metrics_csv(folder, {})
    file = folder / "logs" / "1-target" / "metrics.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=r"metrics\.csv: ") as caught:
        curve_of(folder)
    assert "\n" not in str(caught.value)
