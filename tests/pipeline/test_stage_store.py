"""The stage store with several processes: one trains, the others wait or take over its lock."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from conftest import wait_for
from stagetransfer.config.identity import key_of
from stagetransfer.files import read_json, write_json, write_text
from stagetransfer.pipeline.stage_store import StageStore, exclusive

SPAWN = multiprocessing.get_context("spawn")


def make_slowly(root, log, seconds):
    with StageStore(Path(root)).make("key") as folder:
        if folder is not None:
            with open(log, "a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(seconds)
            (folder / "model.ckpt").write_text("weights")


def test_many_processes_train_a_stage_once(tmp_path):
    log = tmp_path / "log"
    jobs = [SPAWN.Process(target=make_slowly, args=(tmp_path, log, 0.3)) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 4
    assert len(log.read_text().split()) == 1
    assert StageStore(tmp_path).finished("key")
    assert not (tmp_path / "key.partial").exists()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, caplog):
    log = tmp_path / "log"
    owner = SPAWN.Process(target=make_slowly, args=(tmp_path, log, 600))
    owner.start()
    wait_for(lambda: log.exists() and log.read_text())
    assert not StageStore(tmp_path).finished("key")
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    make_slowly(tmp_path, log, 0)
    assert StageStore(tmp_path).finished("key")
    assert len(log.read_text().split()) == 2


def test_a_waiting_process_logs_which_process_it_waits_for(tmp_path, caplog):
    log = tmp_path / "log"
    owner = SPAWN.Process(target=make_slowly, args=(tmp_path, log, 1))
    owner.start()
    wait_for(lambda: log.exists() and log.read_text())
    with caplog.at_level("INFO"), StageStore(tmp_path).make("key") as folder:
        assert folder is None
    owner.join()
    assert f"process {owner.pid}" in caplog.text


def test_an_error_publishes_nothing_and_keeps_the_partial_files(tmp_path):
    store = StageStore(tmp_path)

    def fail():
        with store.make("key") as folder:
            (folder / "last.ckpt").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not store.finished("key")
    with store.make("key") as folder:
        assert (folder / "last.ckpt").exists()
    assert store.finished("key")


def test_the_lock_is_released_after_an_error(tmp_path):
    lock = tmp_path / "a.lock"
    with pytest.raises(RuntimeError), exclusive(lock, "it"):
        raise RuntimeError
    with exclusive(lock, "it"):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert not lock.exists()


def test_a_key_depends_on_every_value_and_not_on_their_order():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})
    assert len(key_of({})) == 16


def test_json_has_null_for_numbers_that_are_not_finite(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [float("inf"), 1.5]})
    assert read_json(tmp_path / "a.json") == {"x": None, "y": [None, 1.5]}


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert read_json(path) == {"x": 1}
    write_text(path, "{}")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
