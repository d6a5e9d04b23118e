"""Run folders are found and read, or refused in one line with the reason."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from made_runs import make_run, make_sweep
from stagetransfer.errors import UserError
from stagetransfer.runs.comparability import _is_written, check_comparable, runs_with
from stagetransfer.runs.reader import find_runs, read_runs


def read(*paths):
    return read_runs(find_runs(paths))


def refused(*paths):
    with pytest.raises(UserError) as caught:
        check_comparable(read(*paths)[0])
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_runs_are_found_in_every_kind_of_folder_and_count_once(tmp_path):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", "natural")
    sweep = tmp_path / "b" / "sweeps" / "today"
    sweep.mkdir(parents=True)
    (sweep / "multirun.yaml").write_text("hydra: {}")
    (tmp_path / "a" / "runs" / ".locks").mkdir()
    paths = [a, tmp_path / "a" / "runs", tmp_path / "a", sweep, tmp_path / "b"]
    assert find_runs(paths) == [b, a]


def test_if_a_run_is_in_two_places_the_finished_one_counts(tmp_path):
    make_run(tmp_path / "a", finished=False)
    b = make_run(tmp_path / "b")
    assert find_runs([tmp_path / "a", tmp_path / "b"]) == [b]


def test_finished_unfinished_and_failed_runs_are_distinguished(tmp_path):
    make_run(tmp_path, seed=0)
    make_run(tmp_path, seed=1, finished=False)
    make_run(tmp_path, seed=2, finished=False, failure="out of memory\nTraceback ...")
    finished, others = read(tmp_path)
    assert [run.seed for run in finished] == [0]
    assert [(run.place, run.cause) for run in others] == [
        (("scratch", 1.0, 1), None),
        (("scratch", 1.0, 2), "out of memory"),
    ]


def test_a_failure_before_the_finish_does_not_count(tmp_path):
    make_run(tmp_path, failure="was killed")
    finished, others = read(tmp_path)
    assert len(finished) == 1
    assert not others


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_folder_without_runs_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(UserError, match="run folders"):
        find_runs([tmp_path / name])


def test_changed_predictions_are_detected(tmp_path):
    folder = make_run(tmp_path)
    content = json.loads((folder / "metrics.json").read_text())
    content["test"]["accuracy"] -= 0.01
    (folder / "metrics.json").write_text(json.dumps(content))
    assert "not that of metrics.json" in refused(tmp_path)


def test_an_incomplete_run_is_refused_in_one_line(tmp_path):
    folder = make_run(tmp_path / "a")
    (folder / "metrics.json").write_text('{"classes": ["x"')
    assert "metrics.json: cannot be read" in refused(folder)
    folder = make_run(tmp_path / "b")
    (folder / "predictions.csv").unlink()
    assert "predictions.csv: missing" in refused(folder)
    folder = make_run(tmp_path / "c")
    content = json.loads((folder / "metrics.json").read_text())
    del content["stages"][-1]["fingerprint"]
    (folder / "metrics.json").write_text(json.dumps(content))
    assert "no key 'fingerprint'" in refused(folder)


def test_different_test_sets_are_refused(tmp_path):
    a, b = make_run(tmp_path, seed=0), make_run(tmp_path, seed=1, test_set="other")
    message = refused(tmp_path)
    assert a.name in message
    assert b.name in message
    assert "180 belong to only one of them" in message


def test_different_groups_labels_and_classes_are_refused(tmp_path):
    a = make_run(tmp_path / "a")
    assert "different groups" in refused(a, make_run(tmp_path / "b", seed=1, groups_per_class=11))
    assert "different groups" in refused(a, make_run(tmp_path / "n", seed=1, groups_per_class=None))
    assert "different classes" in refused(a, make_run(tmp_path / "c", seed=1, classes=("A", "B")))
    d = make_run(tmp_path / "d", seed=1)
    table = (d / "predictions.csv").read_text().splitlines()
    first = table[1].split(",")
    wrong = "GGO" if first[3] != "GGO" else "NOR"  # keeps accuracy, if the prediction was wrong
    rows = [line for line in table[1:] if line.split(",")[2] != line.split(",")[3]]
    fields = rows[0].split(",")
    fields[2] = next(n for n in ("CON", "GGO", "NOR") if n not in fields[2:4])
    assert wrong
    text = "\n".join(table).replace(rows[0], ",".join(fields))
    (d / "predictions.csv").write_text(text + "\n")
    probabilities = dict(zip(table[0].split(","), fields, strict=True))
    before, after = (
        float(probabilities[f"p_{name}"]) for name in (rows[0].split(",")[2], fields[2])
    )
    record = json.loads((d / "metrics.json").read_text())
    record["test"]["cross_entropy"] += math.log(before / after) / (len(table) - 1)
    (d / "metrics.json").write_text(json.dumps(record))
    assert "different labels of 1 test images" in refused(a, d)


def test_a_different_fingerprint_is_refused(tmp_path):
    make_run(tmp_path, seed=0)
    make_run(tmp_path, seed=1, fingerprint="beef")
    assert "fingerprints f00d and beef" in refused(tmp_path)


def test_two_recipes_at_one_place_are_refused_with_their_keys(tmp_path):
    make_run(tmp_path, epochs=9, key="1")
    make_run(tmp_path, epochs=14, key="2")
    message = refused(tmp_path)
    assert "differ in recipe.epochs (9 and 14)" in message
    runs = runs_with(read(tmp_path)[0], ["recipe.epochs=14"])
    assert [run.name for run in runs] == ["scratch-r1-s0-2"]
    check_comparable(runs)


def test_two_runs_with_one_config_are_refused_with_their_stages(tmp_path):
    make_run(tmp_path, key="1")
    make_run(tmp_path, key="2")
    assert "the keys of stage target" in refused(tmp_path)


def test_recipes_are_not_mixed_within_a_condition(tmp_path):
    make_run(tmp_path, seed=0, epochs=9)
    make_run(tmp_path, seed=1, epochs=14)
    assert "must not be averaged" in refused(tmp_path)


def test_a_condition_has_one_chain(tmp_path):
    make_run(tmp_path, "mine", seed=0, chain=("natural", "target"))
    make_run(tmp_path, "mine", seed=1, chain=("texture", "target"))
    assert "the chains natural-target and texture-target" in refused(tmp_path)


def test_settings_that_do_not_affect_the_result_may_differ(tmp_path):
    """These are workers, paths, and the seed of the source stages."""
    make_sweep(tmp_path / "a", ("natural",), (1.0,), (0,))
    make_sweep(tmp_path / "b", ("natural",), (1.0,), (1,), source_seed=1)
    check_comparable(read(tmp_path / "a", tmp_path / "b")[0])


@pytest.mark.parametrize(
    ("text", "value", "is_it"),
    [
        ("true", True, True), ("True", True, True), ("1", True, False), ("1", 1.0, True),
        ("null", None, True), ("[head, 10]", ["head", 10], True), ("[", "[", True),
        ("0.1", 0.2, False),
    ],
)  # fmt: skip
def test_only_takes_values_as_config_files_have_them(text, value, is_it):
    assert _is_written(value, text) is is_it


def test_only_needs_a_key_and_a_value(tmp_path):
    make_run(tmp_path)
    with pytest.raises(UserError, match="KEY=VALUE"):
        runs_with(read(tmp_path)[0], ["epochs"])


def changed_table(folder, change):
    """Change predictions.csv as a frame of texts, and return the line that refuses it."""
    file = folder / "predictions.csv"
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    change(table)
    table.to_csv(file, index=False)
    return refused(folder)


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_probabilities_add_up_to_1(tmp_path, factor):
    def scale(table):
        columns = [name for name in table if name.startswith("p_")]
        table[columns] = np.clip(table[columns].astype(float) * factor, 0, 1)

    assert "add up to 1" in changed_table(make_run(tmp_path), scale)


def test_probabilities_of_an_unknown_class_are_refused(tmp_path):
    assert "p_OTHER" in changed_table(
        make_run(tmp_path), lambda table: table.insert(4, "p_OTHER", "0")
    )


def test_the_cross_entropy_is_that_of_the_record(tmp_path):
    def harden(table):
        columns = [name for name in table if name.startswith("p_")]
        largest = table[columns].astype(float).to_numpy().argmax(1)
        table[columns] = np.eye(len(columns))[largest]

    assert "cross-entropy" in changed_table(make_run(tmp_path), harden)


@pytest.mark.parametrize(
    "content", [b"", b'id,"group\n1,2\n', "id,group,label\nä".encode("cp1252")]
)
def test_an_unreadable_table_is_named_itself(tmp_path, content):
    folder = make_run(tmp_path)
    (folder / "predictions.csv").write_bytes(content)
    assert refused(folder).startswith(str(folder / "predictions.csv"))


def test_equal_copies_of_a_run_count_once_and_different_ones_are_refused(tmp_path):
    one, other = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    assert len(read(tmp_path / "a", tmp_path / "b")[0]) == 1
    file = other / "predictions.csv"
    file.write_text("\n".join(reversed(file.read_text().splitlines())))
    for order in [(one, other), (other, one)]:
        assert one.name in refused(*order)


def test_a_finished_run_has_its_config(tmp_path):
    folder = make_run(tmp_path)
    (folder / "config.yaml").unlink()
    assert refused(folder).startswith(str(folder / "config.yaml"))


def _set(place, value):
    def change(record):
        *path, last = place
        for key in path:
            record = record[key]
        record[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_set(["chain"], []), "chain"),
        (_set(["source_seed"], [1]), "source_seed"),
        (_set(["num_train_per_class"], 5), "num_train_per_class"),
        (_set(["num_train_per_class"], {"CON": "many"}), "num_train_per_class.CON"),
        (_set(["versions"], 5), "versions"),
        (_set(["splits"], {"fold": 0}), "splits.folds"),
        (_set(["search_rates"], 5), "search_rates"),
        (_set(["stages", 0, "epochs"], None), "stage 1: epochs"),
        (_set(["stages", 0, "seconds"], "long"), "stage 1: seconds"),
        (_set(["stages", 0, "images_per_second"], "many"), "stage 1: images_per_second"),
        (_set(["stages", 0, "name"], ["target"]), "stage 1: name"),
        (_set(["stages", 0, "health"], 5), "stage 1: health"),
        (_set(["stages", 0, "health"], {"learned": True}), "stage 1: health.recall"),
        (_set(["stages", 0], 5), "stage 1"),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path, change, named):
    folder = make_run(tmp_path)
    record = json.loads((folder / "metrics.json").read_text())
    change(record)
    (folder / "metrics.json").write_text(json.dumps(record))
    line = refused(folder)
    assert line.startswith(str(folder / "metrics.json"))
    assert named in line
