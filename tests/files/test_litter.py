"""What killed processes were writing is removed by the next that writes there, and nothing else."""

import os
import signal
import subprocess
import sys
import time

import pytest

from conftest import wait_for
from stagetransfer import litter
from stagetransfer.files import atomic_folder, atomic_path, replace_folder, write_text

WRITER = """
import sys, time
from pathlib import Path
from stagetransfer import files
with getattr(files, sys.argv[1])(Path(sys.argv[2])) as part:
    (part / "a.csv" if part.is_dir() else part).write_text("half")
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def new_process():
    litter._remove_litter.cache_clear()


def writer(kind, path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, kind, path])
    wait_for(lambda: any(one.stat().st_size for one in path.parent.glob(f".{path.name}.*.part")))
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name[0] == ".")


@pytest.mark.parametrize("kind", ["atomic_path", "atomic_folder"])
def test_a_part_is_removed_once_its_process_is_dead(tmp_path, kind):
    process = writer(kind, tmp_path / "board")
    (part,) = hidden(tmp_path)
    write_text(tmp_path / "other.csv", "text")
    assert hidden(tmp_path) == [part]
    kill(process)
    litter._remove_litter.cache_clear()
    write_text(tmp_path / "tables" / "another.csv", "text")
    assert hidden(tmp_path) == []


def test_a_part_of_another_machine_is_removed_after_a_day_without_change(tmp_path):
    new, old, used = (tmp_path / f".{name}.0123abcd-1.part" for name in ("new", "old", "used"))
    new.touch()
    old.touch()
    used.mkdir()
    (used / "a.csv").touch()
    for path in (old, used):
        os.utime(path, (time.time() - 2 * litter.DAY,) * 2)
    write_text(tmp_path / "a.csv", "text")
    assert hidden(tmp_path) == [new.name, used.name]


def test_other_hidden_files_stay(tmp_path):
    names = [".X.4194303", ".a.csv.4194303", ".nfs0123abcd-1", ".a.part", ".0123abcd-1.part"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    write_text(tmp_path / "a.csv", "text")
    assert hidden(tmp_path) == sorted(names)


def test_two_machines_and_two_containers_differ(monkeypatch):
    """Both may have the same host name and the same process numbers."""
    own = litter._process_space()
    monkeypatch.setattr(os, "readlink", lambda path: "pid:[1]")
    assert litter._process_space.__wrapped__() != own


def test_an_earlier_folder_comes_back_if_the_new_one_cannot_have_its_place(tmp_path):
    folder = tmp_path / "board"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "missing", folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["board", "old"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_in_a_block_leaves_the_earlier_content(tmp_path, kind):
    def write():
        with atomic_path(target) if kind == "file" else atomic_folder(target, replace=True) as part:
            (part if kind == "file" else part / "a").write_text("new")
            raise ZeroDivisionError

    target = tmp_path / "target"
    file = target if kind == "file" else target / "a"
    write_text(file, "old")
    with pytest.raises(ZeroDivisionError):
        write()
    assert hidden(tmp_path) == []
    assert file.read_text() == "old"
