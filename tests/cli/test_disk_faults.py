"""A disk that is full, read-only or no folder, or that has no locks: one line, exit code 1."""

import errno
import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ONE_THREAD, REPOSITORY, SMALL
from made_runs import make_run
from stagetransfer import litter
from stagetransfer.cli import app
from stagetransfer.errors import UserError, disk_fault
from stagetransfer.files import write_text
from stagetransfer.pipeline import run_folder
from stagetransfer.pipeline.stage_store import exclusive

FAULTS = ("full", "read-only", "file", "null")
COMMANDS = {
    "example": ["example", "polyp", "{out}"],
    "split": ["split", "embedded", "--out", "{out}/split.csv", "--folds", "3"],
    "phantom": ["phantom", "{out}", "--patients", "1", "--size", "256"],
    "report": ["report", "{runs}", "--out", "{out}"],
}
RUN = ("+experiment=scratch", *SMALL)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    for condition in ("scratch", "natural"):
        make_run(outputs, condition)
    return outputs


@pytest.fixture
def place(tmp_path, disk):
    """A function that returns a folder in which nothing can be written."""

    def unwritable(fault: str) -> Path:
        if fault == "file":
            (tmp_path / "file").touch()
        if fault == "full":
            fill(disk("size=1m"))
        if fault == "read-only":
            disk("ro")
        return {"file": tmp_path / "file", "null": Path("/dev/null")}.get(fault, tmp_path / "disk")

    return unwritable


def fill(folder: Path) -> None:
    try:
        with (folder / "filling").open("wb", buffering=0) as file:
            while file.write(bytes(2**12)):
                pass
    except OSError:
        pass


@pytest.fixture
def call(monkeypatch, capsys):
    """A function that runs the command, and returns its exit code and the lines of stderr."""

    def called(*words: object) -> tuple[object, list[str]]:
        litter._remove_litter.cache_clear()
        monkeypatch.setattr(sys, "argv", ["stagetransfer", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        return ended.value.code or 0, capsys.readouterr().err.splitlines()

    return called


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def check_line(lines: list[str], path: Path) -> None:
    (line,) = lines
    assert line.startswith("error: ")
    assert str(path) in line
    assert line.isprintable()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_command_that_cannot_write(place, call, disk, runs, tmp_path, fault, command):
    out = place(fault) / "out"
    words = [word.format(out=out, runs=runs) for word in COMMANDS[command]]
    code, lines = call(*words)
    assert code == (2 if fault in ("file", "null") else 1)  # such a path is bad input
    check_line(lines, out.parent)
    if fault in ("file", "null"):
        return
    disk("rw,size=50m")
    (out.parent / "filling").unlink(missing_ok=True)
    assert call(*words)[0] == 0
    assert call(*(word.replace(str(out), str(tmp_path / "elsewhere")) for word in words))[0] == 0
    assert files(out) == files(tmp_path / "elsewhere")
    assert not list(out.parent.rglob(".*"))


def test_an_earlier_report_stays_whole_until_the_new_one_is(call, disk, runs):
    out = disk("size=50m") / "out"
    assert call("report", runs, "--out", out)[0] == 0
    (out / "plots" / "old.png").touch()  # of a study with more runs
    with (out / "written.txt").open("a") as file:
        file.write("plots/old.png\n")
    earlier = files(out)
    fill(out.parent)
    code, lines = call("report", runs, "--out", out, "--conditions", "scratch")
    assert code == 1
    check_line(lines, out)
    assert files(out) == earlier
    (out.parent / "filling").unlink()
    assert call("report", runs, "--out", out, "--conditions", "scratch")[0] == 0
    assert files(out)["report.html"] != earlier["report.html"]
    assert not (out / "plots" / "old.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("sweep", [[], ["-m"], ["-m", "hydra/launcher=slots"]])
def test_a_training_that_cannot_write(place, fault, sweep):
    out = place(fault) / "out"
    seeds = ["seed=0,1"] if sweep else []
    done = subprocess.run(
        [sys.executable, "train.py", *sweep, *RUN, *seeds, f"paths.outputs={out}"],
        cwd=REPOSITORY, env=ONE_THREAD, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == (2 if fault in ("file", "null") else 1)
    check_line(done.stderr.splitlines(), out.parent)
    assert "Traceback" not in done.stdout


def test_a_training_on_a_disk_that_becomes_full(start, disk, tmp_path):
    """Its first checkpoint has 173 MB, and the network that is kept 86 MB."""
    words = ("+experiment=scratch", "recipe.epochs=2")
    expected = start(tmp_path / "whole", *words).run()
    outputs = disk("size=250m")
    runner = start(outputs, *words)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        runner.run()
    checkpoints = runner.folder / "checkpoints"
    assert caught.value.errno == errno.ENOSPC
    assert Path(caught.value.filename) == checkpoints / "last.ckpt"
    assert [path.name for path in checkpoints.iterdir()] == ["last.ckpt"]
    assert str(checkpoints) in (runner.folder / "failure.txt").read_text()
    assert not (runner.folder / "failure.log").exists()
    disk("size=600m")
    run = start(outputs, *words).run()
    for name in ("predictions.csv", "validation.csv", "checkpoints/best.ckpt"):
        assert (run / name).read_bytes() == (expected / name).read_bytes()
    assert [path.name for path in checkpoints.iterdir()] == ["best.ckpt"]
    assert not (run / "failure.txt").exists()
    assert not list(outputs.rglob(".*.part"))


def test_a_source_on_a_disk_that_becomes_full_while_it_is_published(start, disk):
    words = ("chain=[texture]", "++stage.texture.recipe.epochs=1")
    outputs = disk("size=280m")  # last.ckpt and best.ckpt fit, model.ckpt does not
    runner = start(outputs, *words)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        runner.run()
    partial = runner.folder.with_name(f"{runner.folder.name}.partial")
    assert caught.value.errno == errno.ENOSPC
    assert Path(caught.value.filename) == partial / "model.ckpt"
    assert not list(partial.rglob("*model.ckpt*"))
    disk("size=600m")
    start(outputs, *words).run()
    assert runner.finished
    assert {path.name for path in outputs.joinpath("stages").iterdir()} == {
        runner.folder.name, ".locks",
    }  # fmt: skip


def test_the_first_error_counts_if_the_failure_cannot_be_written(tmp_path, monkeypatch):
    def refuse(path, text):
        raise OSError(errno.ENOSPC, "full", str(path))

    monkeypatch.setattr(run_folder, "write_text", refuse)
    with pytest.raises(ZeroDivisionError), run_folder.failure_recorded(tmp_path):
        1 / 0  # noqa: B018


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_named(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = tmp_path / ".locks" / "a.lock"
    with pytest.raises(OSError, match=r"a\.lock") as caught, exclusive(lock, "it"):
        pass
    line = disk_fault(caught.value)
    assert line is not None
    assert line.startswith(str(lock))


@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_an_error_at_the_end_of_a_file_keeps_the_earlier_one(tmp_path, monkeypatch, when):
    file = tmp_path / "a.csv"
    write_text(file, "old")

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if when == "fsync" else (Path, "replace")), refuse)
        with pytest.raises(OSError, match=str(file)):
            write_text(file, "new")
    assert files(tmp_path) == {"a.csv": b"old"}


@pytest.mark.parametrize("command", ["split", "example"])
def test_a_limit_on_the_size_of_files(tmp_path, command):
    words = [word.format(out=tmp_path / "out") for word in COMMANDS[command]]
    # Python itself would leave cut .pyc files, from which no later process can import.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "stagetransfer", *words],
        capture_output=True, text=True, env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
    )  # fmt: skip
    assert done.returncode == 1
    check_line(done.stderr.splitlines(), tmp_path / "out")
    assert files(tmp_path) == {}


def test_bad_input_and_crashes_are_no_fault_of_the_disk():
    caused = RuntimeError("x")
    caused.__cause__ = OSError(errno.EROFS, "read-only", "/x")
    input_error = UserError("x")
    input_error.__cause__ = caused.__cause__
    assert disk_fault(caused) is not None
    assert disk_fault(input_error) is None
    for crash in (FileNotFoundError(errno.ENOENT, "x", "/x"), OSError("x"), KeyError("x")):
        assert disk_fault(crash) is None
    assert disk_fault(FileNotFoundError(errno.ENOENT, "No usable temporary directory")) is not None
