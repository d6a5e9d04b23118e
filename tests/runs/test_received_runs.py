"""A run folder from somebody else is data: nothing it names is trusted as a path or shown as is."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from made_runs import make_run
from stagetransfer.errors import UserError
from stagetransfer.figures import new_figure, save_figure
from stagetransfer.files import csv_text, default_folder, defused, read_json, read_yaml, restored
from stagetransfer.pages.formatting import DASH
from stagetransfer.reporting.sources_table import sources_table
from stagetransfer.reporting.tensorboard_board import write_board
from stagetransfer.reporting.visualization_section import visualization_section
from stagetransfer.runs.reader import find_runs, is_finished, read_record, read_runs
from stagetransfer.runs.study import Study


def changed(folder, **values):
    """Change keys of metrics.json."""
    file = folder / "metrics.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return folder


def refused(folder):
    """The one line with which reading a run is refused."""
    with pytest.raises(UserError) as caught:
        read_runs([folder])
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) <= 1000
    assert str(folder) in line
    return line


@pytest.mark.parametrize("absolute", [False, True])
def test_the_board_writes_nowhere_else(tmp_path, absolute):
    outputs, elsewhere = tmp_path / "a" / "b" / "outputs", tmp_path / "elsewhere"
    condition = str(elsewhere) if absolute else "../../../../../elsewhere"
    changed(make_run(outputs), condition=condition)
    with pytest.raises(UserError, match="elsewhere' could not name a folder"):
        write_board(outputs)
    assert not elsewhere.exists()


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "/tmp/x", "a\nb", "\x1b[31m", "", 7, "x" * 5000]
)
def test_names_that_are_no_folder_names(tmp_path, name):
    folder = make_run(tmp_path)
    stages = json.loads((folder / "metrics.json").read_text())["stages"]
    refused(changed(folder, condition=name))
    refused(changed(folder, condition="scratch", chain=[name]))
    refused(changed(folder, chain=["target"], stages=[{**stages[0], "key": name}]))


def test_a_learning_rate_of_a_range_test(tmp_path):
    folder = make_run(tmp_path)
    file = folder / "config.yaml"
    file.write_text(file.read_text().replace("lr: 0.01", "lr: auto"))
    (run,), _ = read_runs([folder])
    assert run.config["recipe.optimizer.lr"] == "auto"


@pytest.mark.parametrize("label", ["a\nb", "\x1b]0;title\x07", "\u202egpj", "x" * 5000])
def test_labels_and_other_texts(tmp_path, label):
    folder = make_run(tmp_path, classes=("a", "b"))
    refused(changed(folder, classes=["a", label]))
    refused(changed(folder, classes=["a", "b"], versions={"torch": "1\n2"}))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"a": ' + "[" * 400 + "]" * 400 + "}",
        '{"condition": "scratch"}',
        '{"a": "\xff',
        '{"a": ' + "1" * 5000 + "}",
    ],
    ids=["cut", "list", "deep", "nested", "short", "encoding", "digits"],
)
def test_damaged_metrics(tmp_path, text):
    folder = make_run(tmp_path)
    (folder / "metrics.json").write_bytes(text.encode("latin1"))
    assert "metrics.json" in refused(folder)
    with pytest.raises(UserError, match="Leave the run out"):
        read_record(folder)


def test_a_file_that_is_too_large_is_not_parsed(tmp_path):
    for name, read in (("metrics.json", read_json), ("config.yaml", read_yaml)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**33)
        with pytest.raises(UserError, match=r"it has more than .* MiB"):
            read(tmp_path / name)


def test_an_alias_bomb(tmp_path):
    folder = make_run(tmp_path)
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for i in range(1, 20):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    (folder / "config.yaml").write_text("\n".join(lines))
    assert "it holds an alias" in refused(folder)
    (folder / "config.yaml").write_text("a: !!python/object/apply:os.mkdir [x]")
    assert "cannot be read" in refused(folder)


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("domain.target.confounder", "{domain: {target: {confounder: [0.9], layout: embedded}}}"),
        ("domain.target.layout", "{domain: {target: {layout: [embedded]}}}"),
        ("domain.target.long_tail", "{domain: {target: {long_tail: much}}}"),
        ("recipe.monitor", "{recipe: {monitor: [f1]}}"),
        ("recipe.optimizer.lr", "{recipe: {optimizer: {lr: [0.1, 0.2]}}}"),
        ("chain", "{chain: target}"),
    ],
)
def test_settings_that_no_run_has(tmp_path, key, line):
    folder = make_run(tmp_path)
    (folder / "config.yaml").write_text(line)
    assert f"config.yaml: {key} is " in refused(folder)


HEALTH = {
    "learned": True, "verdict": "learned", "recall": 0.9, "low": 0.8, "high": 1.0, "chance": 0.25,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("health", {**HEALTH, "remarks": 3}),
        ("health", {**HEALTH, "remarks": ["lower the rate", 3]}),
        ("validation", {"accuracy": "x"}),
        ("validation", {"accuracy": []}),
    ],
)
def test_stages_that_no_run_has(tmp_path, name, values):
    folder = make_run(tmp_path)
    stages = json.loads((folder / "metrics.json").read_text())["stages"]
    changed(folder, stages=[{**stages[0], name: values}])
    assert f"stage 1: {name}." in refused(folder)


def test_a_health_without_an_interval_is_shown(tmp_path):
    folder = make_run(tmp_path, "natural")
    stages = json.loads((folder / "metrics.json").read_text())["stages"]
    health = {**HEALTH, "recall": None, "low": None, "high": None}
    changed(folder, stages=[{**stage, "health": health} for stage in stages])
    runs, _ = read_runs([folder])
    (table,) = sources_table(Study(runs))
    (row,) = table.rows
    assert DASH in row[table.columns.index("recall")]


def test_pipes_are_not_opened(tmp_path):
    folder = make_run(tmp_path)
    (folder / "config.yaml").unlink()
    os.mkfifo(folder / "config.yaml")
    assert "a pipe" in refused(folder)
    (folder / "config.yaml").unlink()
    (folder / "predictions.csv").unlink()
    os.mkfifo(folder / "predictions.csv")
    assert "predictions.csv" in refused(folder)
    (folder / "metrics.json").unlink()
    os.mkfifo(folder / "metrics.json")
    assert not is_finished(folder)
    (tmp_path / "visualization").mkdir()
    os.mkfifo(tmp_path / "visualization" / "edges.csv")
    with pytest.raises(UserError, match="no CSV or PNG file"):
        visualization_section(tmp_path / "visualization")


def test_an_unfinished_run_shows_one_clean_line(tmp_path):
    folder = make_run(tmp_path, finished=False, failure="\x1b[2J" + "x" * 9000 + "\nmore")
    (found,) = read_runs(find_runs([tmp_path]))[1]
    assert found.reason.isprintable()
    assert len(found.reason) < 1100
    text = (folder / "config.yaml").read_text().replace("condition: scratch", "condition: ../x")
    (folder / "config.yaml").write_text(text)
    assert read_runs([folder])[1][0].place is None


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "'=1", "''@x"])
def test_formulas_are_texts_to_a_spreadsheet_and_are_read_back(tmp_path, text):
    assert defused(text) == f"'{text}"
    assert restored(defused(text)) == text
    classes = (text, "b")
    folder = make_run(tmp_path, classes=classes, test_set=text, per_class=3, groups_per_class=3)
    file = folder / "predictions.csv"
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    table["group"] = text + table["group"]
    file.write_text(csv_text(table))
    for line in file.read_text().splitlines():
        assert not any(cell.startswith(tuple("=+-@")) for cell in line.replace('"', "").split(","))
    (run,), _ = read_runs([folder])
    assert run.ids == tuple(table["id"])
    assert run.groups == tuple(table["group"])
    assert run.classes == classes


def test_numbers_and_empty_tables_keep_their_form():
    table = pd.DataFrame({"=a": ["-1", "+1.5", "-1e-3", "-"], "n": [-1, 2, 3, 4]})
    assert csv_text(table) == "'=a,n\n-1,-1\n+1.5,2\n-1e-3,3\n-,4\n"
    assert csv_text(table.iloc[:0]) == "'=a,n\n"
    assert csv_text(table.set_index("=a"), index=True).startswith("'=a,n\n-1,-1\n")


def test_a_message_is_one_line_for_the_terminal():
    line = str(UserError("a\x1b[31m.csv\nb: " + "x" * 9000 + " Remove it."))
    assert line.isprintable()
    assert line.startswith(r"a\x1b[31m.csv b:")
    assert line.endswith("Remove it.")
    assert len(line) <= 1000


def test_a_path_of_5000_characters():
    code = "from stagetransfer.cli.app import main; main()"
    command = [sys.executable, "-c", code, "report", "x" * 5000]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_links_in_an_outputs_folder_lead_nowhere(tmp_path):
    outputs, elsewhere = tmp_path / "outputs", tmp_path / "elsewhere"
    (outputs / "roc").mkdir(parents=True)
    elsewhere.mkdir()
    (outputs / "report").symlink_to(elsewhere)
    (outputs / "roc" / "plots").symlink_to(elsewhere)
    (outputs / "roc" / "here").symlink_to(outputs / "roc")
    for name in ("report", "roc"):
        with pytest.raises(UserError, match="a link out of"):
            default_folder(outputs, name)
    assert default_folder(outputs, "board") == outputs / "board"
    target = elsewhere / "notes.txt"
    target.write_text("mine")
    (outputs / "figure.png").symlink_to(target)
    save_figure(new_figure(1, 1), outputs / "figure", suffixes=(".png",))
    assert target.read_text() == "mine"


def test_a_damaged_validation_table(tmp_path):
    folder = make_run(tmp_path, dead=True)
    for text in ("a,b\n1\n1,2,3", "id,group,label,p_CON,p_GGO,p_NOR\na,,CON,x,0,0\n"):
        (folder / "validation.csv").write_text(text)
        refused(folder)
    (folder / "validation.csv").unlink()
    splits = {"digest": "a", "fold": 0, "folds": 10**9}
    assert "1,000 folds" in refused(changed(folder, splits=splits))
