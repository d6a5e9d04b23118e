"""`stagetransfer board` on generated runs, read back with TensorBoard's own readers."""

import errno
import io
import json
import re
import shutil
import sys
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from made_runs import make_run, make_sweep
from stagetransfer.cli.app import main
from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.pipeline.sweep import Job, SweepCallback
from stagetransfer.reporting import tensorboard_board
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


def read_images(folder, tag):
    """The images of a tag as grey values, by step."""
    found = {}
    for event in events(folder).Images(tag):
        image = Image.open(io.BytesIO(event.encoded_image_string)).convert("L")
        assert image.size == (event.width, event.height)
        found[event.step] = np.asarray(image)
    return found


def scalars(folder, tag):
    return {event.step: event.value for event in events(folder).Scalars(tag)}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    outputs = make_sweep(tmp_path_factory.mktemp("board"), CONDITIONS, RATIOS, (0, 1))
    make_run(outputs, "natural", 0.2, 0, finished=False)
    assert write_board(outputs, count=20) == [outputs.resolve() / "board"]
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
        texts = {key: row[key].string_value for key in row if key not in ("condition", "target")}
        place = {key: f"{record[key]:g}" for key in ("ratio", "seed", "source_seed")}
        assert texts == {**place, "epochs": "9", "lr": "0.01"}  # as numbers they would be 9.0000
        for metric in ("accuracy", "recall", "cross_entropy"):
            (value,) = scalars(outputs / "board" / name, f"test/{metric}").values()
            assert value == pytest.approx(record["test"][metric])


def test_the_hparams_tab_has_its_columns_and_values(outputs):
    experiment = hparams(outputs / "board" / "figure5", metadata.EXPERIMENT_TAG)
    columns = {info.name: list(info.domain_discrete) for info in experiment.hparam_infos}
    # those that differ between runs
    assert columns == {"condition": [*CONDITIONS], "ratio": ["0.2", "1"], "seed": ["0", "1"]}
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
    folder = outputs / "board" / "figure5"
    matrices = read_images(folder / "scratch", "confusion")
    assert {*matrices} == {20, 100}
    assert not np.array_equal(matrices[20], matrices[100])
    plots = [read_images(folder, f"figure5/plot_{name}")[0] for name in tensorboard_board.CURVES]
    for page in (*matrices.values(), *plots):
        assert min(page.shape) > 200
        assert page.std() > 10


def test_the_page_colours_runs_by_condition():
    query = parse_qs(urlsplit(tensorboard_board.PAGE).query)
    assert query["smoothing"] == ["0"]
    pattern = query["runColorGroup"][0].removeprefix("regex:")
    for name, condition in {
        "figure5/two_stage": "two_stage",
        "two_stage-r0.2-s0-ff7459c9": "two_stage",
        "two_stage-r1e-05-s12-ff7459c9": "two_stage",
        "my-r2-net-r1-s0-aeccd873": "my-r2-net",
        "figure5/natural conv4-fc8": "natural conv4-fc8",
    }.items():
        assert re.search(pattern, name).groups() == (condition,)


def test_each_run_adds_no_figure(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(tensorboard_board, "_image", lambda tag, _: drawn.append(tag) or scalar)
    scalar = tensorboard_board._scalar("image", 0.0)
    for seeds in ((0, 1), (2, 3, 4)):
        drawn.clear()
        make_sweep(tmp_path, CONDITIONS, RATIOS, seeds)
        write_board(tmp_path, count=20)
        plots = ["figure5/plot_accuracy", "figure5/plot_cross_entropy"]
        assert sorted(drawn) == ["confusion"] * len(CONDITIONS) * len(RATIOS) + plots


def test_only_new_and_changed_runs_are_written(tmp_path):
    kept, changed, vanished = (make_run(tmp_path, "scratch", seed=seed) for seed in range(3))
    write_board(tmp_path, count=20)
    before = files_on_board(tmp_path)
    for folder in (changed, vanished):
        shutil.rmtree(folder)
    make_run(tmp_path, "scratch", seed=1, skill=0.3)
    new = make_run(tmp_path, "natural", seed=1)
    write_board(tmp_path, count=20)
    after = files_on_board(tmp_path)
    assert {*after} == {kept.name, changed.name, new.name}
    assert after[kept.name] == before[kept.name]
    assert after[changed.name][0] != before[changed.name][0]
    for name, record in records(tmp_path).items():
        (value,) = scalars(tmp_path / "board" / name, "test/recall").values()
        assert value == pytest.approx(record["test"]["recall"])


def test_a_file_system_without_hard_links_has_the_same_board(tmp_path, monkeypatch):
    def no_link(*_):
        raise OSError(errno.EOPNOTSUPP, "no hard links")

    folder = make_run(tmp_path, "scratch")
    monkeypatch.setattr("os.link", no_link)
    for _ in range(2):
        write_board(tmp_path, count=20)
        assert {*files_on_board(tmp_path)} == {folder.name}
        assert len(scalars(tmp_path / "board" / folder.name, "test/recall")) == 1


def files_on_board(outputs):
    """The name and the inode of the one file of each run on the board."""
    found = {}
    for folder in (outputs / "board").iterdir():
        if folder.name != "figure5":
            (file,) = folder.iterdir()
            found[folder.name] = (file.name, file.stat().st_ino)
    return found


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
    assert f"compare  stagetransfer report {tmp_path}" in printed.out


def test_a_sweep_ends_with_the_means_of_its_runs(tmp_path, capsys):
    for number, seed in enumerate((0, 1)):
        folder = tmp_path / "s" / str(number)
        Job(folder, number).begin([f"seed={seed}"], make_run(tmp_path, "natural", seed=seed))
    make_run(tmp_path, "natural", seed=5)  # of another sweep
    end_of_sweep(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    (row,) = (line.split() for line in lines if line.split()[:1] == ["natural"])
    recorded = [
        read_json(path)["test"]["accuracy"]
        for path in tmp_path.glob("runs/natural-r1-s[01]-*/*.json")
    ]
    assert row[1:4] == ["1", "2", "2"]
    assert float(row[4]) == pytest.approx(sum(recorded) / 2, abs=5e-4)


def test_an_error_in_the_board_does_not_fail_the_sweep(tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise OSError("disk full")

    make_run(tmp_path, "natural")
    monkeypatch.setattr("stagetransfer.reporting.tensorboard_board.write_board", broken)
    end_of_sweep(tmp_path)
    assert capsys.readouterr().err.startswith("no board was written: OSError: disk full (")
