"""keep=best, head and none: the files of a finished run, and the network that they give."""

import shutil
from hashlib import sha256

import pytest
import torch

from stagetransfer.errors import UserError
from stagetransfer.files import read_json, write_json
from stagetransfer.pipeline.restore import restore_runs
from stagetransfer.pipeline.run_folder import _digest
from stagetransfer.runs.reader import find_runs, read_runs

FROZEN = (
    "+experiment=texture", "transfer.mode=frozen", "domain.target.augment=false", "recipe.epochs=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def outputs(start, tmp_path_factory):
    """One outputs folder with the runs best, head and none, of one source stage."""
    folder = tmp_path_factory.mktemp("outputs")
    for keep in ("best", "head", "none"):
        run = start(folder, *FROZEN, f"keep={keep}", f"condition={keep}").run()
        assert run.name.startswith(f"{keep}-")
    return folder


@pytest.fixture
def copied(outputs, tmp_path):
    """A copy of the outputs that a test may damage."""
    return shutil.copytree(outputs, tmp_path / "outputs")


def run(outputs, keep):
    (folder,) = (outputs / "runs").glob(f"{keep}-*")
    return folder


def test_each_leaves_its_own_file(outputs):
    files = {
        keep: {path.name for path in (run(outputs, keep) / "checkpoints").iterdir()}
        for keep in ("best", "head", "none")
    }
    assert files == {"best": {"best.ckpt"}, "head": {"head.ckpt"}, "none": set()}
    head = torch.load(run(outputs, "head") / "checkpoints" / "head.ckpt", weights_only=True)
    assert set(head["state_dict"]) == {f"fc{n}.{k}" for n in (7, 8) for k in ("weight", "bias")}
    predictions = {(run(outputs, k) / "predictions.csv").read_bytes() for k in files}
    assert len(predictions) == 1


def test_the_head_and_the_source_give_the_whole_network(outputs):
    whole, head = (
        restore_runs([run(outputs, keep)])[0].network().state() for keep in ("best", "head")
    )
    assert whole.keys() == head.keys()
    assert all(torch.equal(whole[name], head[name]) for name in whole)


def test_a_report_needs_no_weights(outputs):
    finished, unfinished = read_runs(find_runs([outputs]))
    assert len(finished) == 3
    assert not unfinished


def test_a_run_without_a_network_is_refused_by_name(outputs):
    with pytest.raises(UserError, match="keep=none") as caught:
        restore_runs([outputs])
    assert str(run(outputs, "none")) in str(caught.value)


def test_a_missing_source_is_refused_by_name(copied):
    (source,) = (copied / "stages").glob("*/model.ckpt")
    source.unlink()
    with pytest.raises(UserError) as caught:
        restore_runs([run(copied, "head")])
    assert str(source) in str(caught.value)
    restore_runs([run(copied, "best")])


def test_another_source_is_refused(copied):
    (source,) = (copied / "stages").glob("*/model.ckpt")
    content = torch.load(source, weights_only=True)
    content["state_dict"]["conv1.bias"][0] += 1e-6
    torch.save(content, source)
    restored = restore_runs([run(copied, "head")])[0]
    with pytest.raises(UserError) as caught:
        restored.network()
    assert str(restored.folder) in str(caught.value)


def test_weights_of_any_type_have_a_digest():
    state = {"a": torch.ones(3, 2).t(), "b": torch.tensor(5), "c": torch.ones(2).bfloat16()}
    content = b"a" + state["a"].contiguous().numpy().tobytes() + b"b" + state["b"].numpy().tobytes()
    assert _digest(state, ["b", "a"]) == sha256(content).hexdigest()
    assert _digest(state, state) == sha256(content + b"c" + b"\x80\x3f" * 2).hexdigest()


@pytest.mark.parametrize("kept", [{"file": "../best.ckpt"}, {"file": 1}, ["best.ckpt"], {}])
def test_a_received_record_names_no_other_file(copied, kept):
    file = run(copied, "best") / "metrics.json"
    write_json(file, {**read_json(file), "kept": kept or {"file": []}})
    with pytest.raises(UserError, match="kept"):
        restore_runs([file.parent])


@pytest.mark.parametrize("experiment", ["texture", "scratch"])
def test_a_network_that_shares_nothing_with_its_source_is_kept_whole(
    start, outputs, tmp_path, experiment
):
    shutil.copytree(outputs / "stages", tmp_path / "stages")
    words = (f"+experiment={experiment}", "recipe.epochs=1", "keep=head")
    folder = start(tmp_path, *words).run()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best.ckpt"]
    assert read_json(folder / "metrics.json")["kept"] == {
        "file": "best.ckpt", "source_sha256": None,
    }  # fmt: skip
    restore_runs([folder])
