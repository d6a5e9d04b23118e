"""`stagetransfer board` on generated runs, read back with TensorBoard's own readers."""

import io
import json
import sys

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from made_runs import make_run, make_sweep
from stagetransfer.cli.app import main
from stagetransfer.errors import UserError
from stagetransfer.pipeline.sweep import SweepCallback
from stagetransfer.reporting.tensorboard_board import write_board

CONDITIONS = ("scratch", "two_stage")
RATIOS = (0.2, 1.0)


def events(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def hparams(folder, tag):
    content = events(folder).SummaryMetadata(tag).plugin_data.content
    if tag == metadata.EXPERIMENT_TAG:
        return metadata.parse_experiment_plugin_data(content)
    return metadata.parse_session_start_info_plugin_data(content)


def read_image(folder, tag):
    (event,) = events(folder).Images(tag)
    image = Image.open(io.BytesIO(event.encoded_image_string)).convert("L")
    assert image.size == (event.width, event.height)
    return np.asarray(image)


def scalars(folder, tag):
    return {event.step: event.value for event in events(folder).Scalars(tag)}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    outputs = make_sweep(tmp_path_factory.mktemp("board"), CONDITIONS, RATIOS, (0, 1))
    make_run(outputs, "natural", 0.2, 0, finished=False)
    assert write_board(outputs, count=20) == outputs.resolve() / "board"
    return outputs


def records(outputs):
    return {
        file.parent.name: json.loads(file.read_text())
        for file in outputs.glob("runs/*/metrics.json")
    }


def test_each_finished_run_has_its_row_of_hparams_with_metrics(outputs):
    written = {folder.name for folder in (outputs / "board").iterdir()} - {"figure5"}
    assert written == set(records(outputs))
    for name, record in records(outputs).items():
        row = hparams(outputs / "board" / name, metadata.SESSION_START_INFO_TAG).hparams
        assert row["condition"].string_value == record["condition"]
        assert row["target"].string_value == "learned"
        numbers = {key: row[key].number_value for key in row if key not in ("condition", "target")}
        place = {key: record[key] for key in ("ratio", "seed", "source_seed")}
        assert numbers == {**place, "epochs": 9, "lr": 0.01}
        for metric in ("accuracy", "recall", "cross_entropy"):
            (value,) = scalars(outputs / "board" / name, f"test/{metric}").values()
            assert value == pytest.approx(record["test"][metric])


def test_the_hparams_tab_has_its_columns_and_values(outputs):
    experiment = hparams(outputs / "board" / "figure5", metadata.EXPERIMENT_TAG)
    columns = {info.name: list(info.domain_discrete) for info in experiment.hparam_infos}
    assert set(columns) == {"condition", "ratio", "seed", "source_seed", "target", "epochs", "lr"}
    assert columns["condition"] == list(CONDITIONS)
    assert columns["ratio"] == list(RATIOS)
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics == ["test/accuracy", "test/recall", "test/cross_entropy"]


def test_curves_of_figure_5_are_means_over_seeds_at_steps_of_100_r(outputs):
    for condition in CONDITIONS:
        for figure in ("accuracy", "cross_entropy"):
            of = [r for r in records(outputs).values() if r["condition"] == condition]
            expected = {
                step: pytest.approx(
                    np.mean([r["test"][figure] for r in of if r["ratio"] == step / 100])
                )
                for step in (20, 100)
            }
            folder = outputs / "board" / "figure5" / condition
            assert scalars(folder, f"figure5/{figure}") == expected


def test_images_are_not_blank(outputs):
    board = outputs / "board"
    pages = [read_image(board / "figure5", tag) for tag in ("figure5/plot", "conditions/confusion")]
    pages += [read_image(board / name, "test/confusion") for name in records(outputs)]
    for page in pages:
        assert min(page.shape) > 200
        assert page.std() > 10


def test_an_earlier_board_is_replaced_and_no_other_file_is_left(tmp_path):
    first = make_run(tmp_path, "scratch")
    write_board(tmp_path, count=20)
    (first / "metrics.json").rename(first / "away")
    other = make_run(tmp_path, "natural")
    write_board(tmp_path / "runs", count=20)
    assert {path.name for path in (tmp_path / "board").iterdir()} == {"figure5", other.name}
    assert len(list((tmp_path / "board" / other.name).iterdir())) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "board"}


def test_bad_input_is_one_line_and_keeps_an_earlier_board(tmp_path, capsys, monkeypatch):
    make_run(tmp_path, "scratch", finished=False)
    with pytest.raises(UserError, match="none of 1 runs is finished"):
        write_board(tmp_path)
    make_run(tmp_path, "natural", test_set="a")
    make_run(tmp_path, "texture", test_set="b")
    (tmp_path / "board").mkdir()
    monkeypatch.setattr(sys, "argv", ["stagetransfer", "board", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: natural")
    assert (tmp_path / "board").is_dir()


def end_of_sweep(outputs):
    config = {"paths": {"outputs": str(outputs)}, "hydra": {"sweep": {"dir": str(outputs / "s")}}}
    SweepCallback().on_multirun_end(OmegaConf.create(config))


def test_a_sweep_ends_with_its_board_or_with_a_message(tmp_path, capsys):
    end_of_sweep(tmp_path)  # no run has been finished
    assert capsys.readouterr().out.strip() == "0 jobs, all finished"
    make_run(tmp_path, "natural", test_set="a")
    end_of_sweep(tmp_path)
    assert f"board  tensorboard --logdir {tmp_path / 'board'}" in capsys.readouterr().out
    assert (tmp_path / "board" / "figure5").is_dir()
    make_run(tmp_path, "texture", test_set="b")
    end_of_sweep(tmp_path)
    printed = capsys.readouterr()
    assert printed.err.startswith("no board was written: natural")
    assert "all finished" in printed.out


def test_an_error_in_the_board_does_not_fail_the_sweep(tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise OSError("disk full")

    make_run(tmp_path, "natural")
    monkeypatch.setattr("stagetransfer.reporting.tensorboard_board.write_board", broken)
    end_of_sweep(tmp_path)
    assert capsys.readouterr().err.startswith("no board was written: OSError: disk full (")
