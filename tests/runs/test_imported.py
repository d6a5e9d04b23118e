"""Another model's predictions on the same images are a run like any other."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from made_runs import make_sweep
from stagetransfer.cli.app import app
from stagetransfer.errors import UserError
from stagetransfer.pipeline.restore import restore_runs
from stagetransfer.reporting import make_report
from stagetransfer.runs.imported import import_run
from stagetransfer.runs.reader import find_runs, read_runs


@pytest.fixture
def outputs(tmp_path):
    make_sweep(tmp_path, ("scratch", "texture"), (1.0,), (0, 1), groups_per_class=12)
    for folder in (tmp_path / "runs").iterdir():
        table = pd.read_csv(folder / "predictions.csv")
        table.iloc[::2].to_csv(folder / "validation.csv", index=False)
    return tmp_path


@pytest.fixture
def like(outputs):
    return next((outputs / "runs").glob("texture-r1-s1*"))


def foreign(like, name="predictions", **columns):
    """A table as another program writes it: shuffled, with other columns."""
    table = pd.read_csv(like / f"{name}.csv")
    of_class = [column for column in table if column.startswith("p_")]
    table[of_class] = table[of_class] ** 2 + 0.05
    table[of_class] = table[of_class].div(table[of_class].sum(axis=1), axis=0)
    table = table[["id", *of_class[::-1]]].assign(epoch=7, **columns)
    return table.sample(frac=1, random_state=0)


def written(tmp_path, table, name="theirs.csv", **options):
    table.to_csv(tmp_path / name, index=False, **options)
    return tmp_path / name


def test_the_run_has_their_probabilities_and_our_images(outputs, like, tmp_path):
    table = foreign(like)
    folder = import_run(written(tmp_path, table, sep=";"), None, like, "theirs")
    (run,), _ = read_runs([folder])
    (other,), _ = read_runs([like])
    assert (run.condition, run.ratio, run.seed, run.chain) == ("theirs", 1, 1, ("target",))
    assert (run.ids, run.groups, run.classes) == (other.ids, other.groups, other.classes)
    assert run.labels.tolist() == other.labels.tolist()
    expected = table.set_index("id").loc[list(run.ids), [f"p_{name}" for name in run.classes]]
    assert np.allclose(run.probabilities, expected)
    assert run.learned
    assert json.loads((folder / "metrics.json").read_text())["imported"] == "theirs.csv"
    assert not (folder / "validation.csv").exists()


def test_it_takes_part_in_report_and_ensemble(outputs, tmp_path):
    for seed in (0, 1):
        run = next((outputs / "runs").glob(f"texture-r1-s{seed}*"))
        test = written(tmp_path, foreign(run), f"test{seed}.csv")
        validation = written(tmp_path, foreign(run, "validation"), f"validation{seed}.csv")
        words = ["import", test, "--validation", validation, "--like", run, "--condition", "theirs"]
        done = CliRunner().invoke(app, [*map(str, words)])
        assert done.exit_code == 0, done.output
    report = make_report([outputs], tmp_path / "report")
    pairs = pd.read_csv(report / "tables" / "pairs.csv")
    assert {"theirs", "texture", "scratch"} <= {*pairs.to_numpy().ravel()}
    assert "theirs" in (report / "report.md").read_text()
    done = CliRunner().invoke(app, ["ensemble", str(outputs), "--out", str(tmp_path / "ensemble")])
    assert "mean of scratch, texture, theirs" in done.output
    for file in (outputs / "runs").glob("theirs-*/validation.csv"):
        file.unlink()
    done = CliRunner().invoke(app, ["ensemble", str(outputs), "--out", str(tmp_path / "ensemble")])
    assert "--validation" in str(done.exception)
    words = ["ensemble", str(outputs), "--conditions", "scratch", "--conditions", "texture"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "two")])
    assert "mean of scratch, texture;" in done.output


def test_a_seed_of_their_own(like, tmp_path):
    folder = import_run(written(tmp_path, foreign(like)), None, like, "theirs", seed=41)
    assert read_runs([folder])[0][0].seed == 41
    with pytest.raises(UserError, match="already exists"):
        import_run(tmp_path / "theirs.csv", None, like, "theirs", seed=41)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[1:], "1 are missing and 0 are not among them"),
        (lambda t: t.assign(id=t["id"].replace(t["id"].iloc[0], "other")), "1 are missing and 1"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "stands there twice"),
        (lambda t: t.assign(p_CON=t["p_CON"] + 0.5), "add up to 1"),
        (lambda t: t.assign(p_CON=-t["p_CON"]), "no probabilities"),
        (lambda t: t.assign(p_CON="high"), "high"),
        (lambda t: t.assign(p_CON=np.nan), "line 2"),
        (lambda t: t.drop(columns="p_CON"), "p_con"),
        (lambda t: t.assign(label="CON"), r"60 labels are not those of .*, such as 'CON' of "),
    ],
)
def test_what_are_no_predictions_of_these_images(like, tmp_path, change, message):
    before = sorted(like.parent.iterdir())
    with pytest.raises(UserError, match=message):
        import_run(written(tmp_path, change(foreign(like))), None, like, "theirs")
    assert sorted(like.parent.iterdir()) == before


def test_names_and_folders_are_checked(outputs, like, tmp_path):
    table = written(tmp_path, foreign(like))
    with pytest.raises(UserError, match="--condition"):
        import_run(table, None, like, "../theirs")
    with pytest.raises(UserError, match=r"--condition scratch: scratch-r1-s[01]-"):
        import_run(table, None, like, "scratch")
    words = ["import", str(table), "--like", str(like), "--seed", "-3"]
    assert CliRunner().invoke(app, words).exit_code == 2
    with pytest.raises(UserError, match="one finished run"):
        import_run(table, None, outputs, "theirs")
    assert len(find_runs([outputs])) == 4


def test_an_imported_run_has_no_network(like, tmp_path):
    folder = import_run(written(tmp_path, foreign(like)), None, like, "theirs")
    with pytest.raises(UserError, match="imported"):
        restore_runs([folder])
