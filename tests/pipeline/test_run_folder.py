"""A finished run that is run again, and the places where a process may be killed at its end."""

import pytest

from stagetransfer.files import read_json
from stagetransfer.pipeline import chain, run_folder
from stagetransfer.runs.reader import find_runs
from stagetransfer.training.callbacks import SeedEpoch

WORDS = ("+experiment=scratch", "recipe.epochs=2")


class Killed(Exception):
    pass


def killed(*_, **__):
    raise Killed


@pytest.fixture
def epochs(monkeypatch):
    """The epochs that were begun; the process is "killed" in the one that `kill` holds."""
    begun, kill = [], []
    original = SeedEpoch.on_train_epoch_start

    def on_train_epoch_start(self, trainer, module):
        original(self, trainer, module)
        begun.append(trainer.current_epoch)
        if trainer.current_epoch in kill:
            raise Killed

    monkeypatch.setattr(SeedEpoch, "on_train_epoch_start", on_train_epoch_start)
    return begun, kill


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_force_keeps_the_old_result_until_the_new_one_is_there(start, tmp_path, epochs):
    begun, kill = epochs
    folder = start(tmp_path, *WORDS).run()
    old = content(folder)
    kill.append(1)
    with pytest.raises(Killed):
        start(tmp_path, *WORDS, "force=true").run()
    assert content(folder) == old
    assert find_runs([tmp_path]) == [folder.resolve()]
    assert begun == [0, 1, 0, 1]
    assert start(tmp_path, *WORDS).run() == folder
    kill.clear()
    begun.clear()
    assert start(tmp_path, *WORDS, "force=true").run() == folder
    assert begun == [1]
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, ".locks"}
    new = content(folder)
    for name in ("predictions.csv", "checkpoints/best.ckpt"):
        assert new[folder / name] == old[folder / name]
    assert (folder / "logs" / "1-target" / "metrics-1.csv").is_file()


def test_a_result_that_had_not_taken_its_place_takes_it(start, tmp_path, epochs, monkeypatch):
    begun, _ = epochs
    folder = start(tmp_path, *WORDS).run()
    (folder / "old").touch()
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "replace_folder", killed)
        with pytest.raises(Killed):
            start(tmp_path, *WORDS, "force=true").run()
    assert begun == [0, 1, 0, 1]
    assert (folder / "old").exists()
    begun.clear()
    assert start(tmp_path, *WORDS).run() == folder
    assert not begun
    assert not (folder / "old").exists()
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, ".locks"}


@pytest.mark.parametrize("keep", ["best", "none"])
def test_what_was_left_after_the_result_is_removed_by_the_next_command(
    start, tmp_path, epochs, monkeypatch, keep
):
    words = ("+experiment=scratch", "recipe.epochs=1", f"keep={keep}")
    with monkeypatch.context() as patch:
        patch.setattr(chain, "settle", killed)
        with pytest.raises(Killed):
            start(tmp_path, *words).run()
    folder = start(tmp_path, *words).folder
    checkpoints = folder / "checkpoints"
    assert (checkpoints / "last.ckpt").exists()
    (checkpoints / ".last.ckpt.0123abcd-1.part").touch()  # of another machine, just now
    # The run's own setting counts, not that of the command which finds it finished.
    assert start(tmp_path, *words[:2]).run() == folder
    left = {path.name for path in checkpoints.iterdir()}
    assert left == ({"best.ckpt"} if keep == "best" else set())
    assert epochs[0] == [0]
    assert read_json(folder / "metrics.json")["kept"]["file"] == (
        "best.ckpt" if keep == "best" else None
    )


def test_a_source_stage_that_was_not_published_is_not_trained_again(
    start, tmp_path, epochs, monkeypatch
):
    words = ("chain=[texture]", "++stage.texture.recipe.epochs=1")
    runner = start(tmp_path, *words)
    with monkeypatch.context() as patch:
        patch.setattr("stagetransfer.pipeline.stage_store.tidy", killed)
        with pytest.raises(Killed):
            runner.run()
    epochs[0].clear()
    start(tmp_path, *words).run()
    assert not epochs[0]
    files = {path.name for path in runner.folder.iterdir()}
    assert files == {"model.ckpt", "stage.json", "DONE", "tensorboard", "logs"}
    assert not list((tmp_path / "stages" / ".locks").iterdir())
