"""The installed command: version, module, training, and what it imports."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from made_runs import make_run
from stagetransfer import __version__
from stagetransfer.cli.app import app
from stagetransfer.errors import UserError

HEAVY = "{'torch', 'pytorch_lightning', 'pandas', 'matplotlib', 'sklearn', 'scipy'}"


def python(*words, **options):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **options)


def test_version():
    assert CliRunner().invoke(app, ["--version"]).output == f"stagetransfer {__version__}\n"


def test_the_module_is_the_command(tmp_path):
    done = python("-m", "stagetransfer", "--version", cwd=tmp_path)
    assert done.stdout == f"stagetransfer {__version__}\n"


def test_every_subcommand_has_a_line_of_help():
    for command in app.registered_commands:
        assert (command.callback.__doc__ or "").strip(), command.callback


@pytest.mark.parametrize("words", [["--help"], ["train", "ratio=1.7"], ["train", "recipe.epoch=1"]])
def test_nothing_heavy_is_imported_before_the_first_word(tmp_path, words):
    code = (
        "import sys\n"
        f"sys.argv = ['stagetransfer', *{words!r}]\n"
        "from stagetransfer.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('loaded:', sorted({HEAVY} & set(sys.modules)))\n"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr


def test_train_help_starts_with_what_the_program_does_and_names_every_group(tmp_path):
    done = python("-m", "stagetransfer", "train", "--help", cwd=tmp_path)
    assert done.stdout.startswith("Train a network on a chain of domains")
    text, _, listed = done.stdout.partition("hydra/launcher ")
    for line in listed.splitlines():
        group, colon, _ = line.partition(": ")
        if colon and group.isidentifier() and group != "domain":
            assert f" {group} " in text.replace("+", " "), group


def test_an_empty_path_for_results_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    runs = make_run(tmp_path / "outputs").parent
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for command in ("report", "roc", "convergence", "export"):
        done = CliRunner().invoke(app, [command, str(runs), "--out", ""])
        assert isinstance(done.exception, UserError), command
    assert not [*(tmp_path / "here").iterdir()]


@pytest.mark.parametrize("names", ["", ","])
def test_no_condition_is_not_all_conditions(tmp_path, names):
    runs = make_run(tmp_path).parent
    done = CliRunner().invoke(app, ["report", str(runs), "--conditions", names])
    assert isinstance(done.exception, UserError)


def test_a_misspelt_command_is_one_line(tmp_path):
    done = python("-m", "stagetransfer", "reprot", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: No such command 'reprot'")
    assert "'report'" in done.stderr
    assert "? See " in done.stderr
    assert done.stderr.endswith("stagetransfer --help.\n")


def test_an_option_of_a_layout_is_given_once(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label")
    words = ["split", "csv", str(tmp_path), "--test", "0.25", "--out", str(tmp_path / "out.csv")]
    twice = ["--option", "table=nothing.csv", "--option", "table=labels.csv"]
    done = CliRunner().invoke(app, [*words, *twice])
    assert "table is given twice" in str(done.exception)
