"""A student learns the mean probabilities of finished runs, and only those of its own target."""

import json
import shutil

import numpy as np
import pytest
import torch

from stagetransfer.errors import UserError
from stagetransfer.pipeline.restore import restore_runs
from stagetransfer.pipeline.stage import prepare
from stagetransfer.pipeline.teachers import Teachers, read_teachers
from stagetransfer.runs.ensembles import temperature
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.training import network_state


@pytest.fixture(scope="module")
def outputs(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    for seed in (0, 1):
        start(folder, "chain=[target]", f"seed={seed}").run()
    return folder


@pytest.fixture(scope="module")
def folders(outputs):
    return sorted((outputs / "runs").glob("scratch-*"))


def words(folders):
    return "chain=[target]", "condition=distil", f"teacher=[{','.join(map(str, folders))}]"


def test_the_mean_of_the_runs_at_their_own_temperatures(start, outputs, folders):
    runner = start(outputs, *words(folders))
    found = read_teachers(runner.config)
    finished, _ = read_runs(find_runs(folders))
    images = runner.stages[-1].data.inputs("train", range(4))
    expected = sum(
        (one.network()(images).double() / temperature(run)).softmax(1)
        for one, run in zip(restore_runs(folders), finished, strict=True)
    )
    probabilities = found(images)
    assert probabilities.shape == (4, 7)
    assert not probabilities.requires_grad
    assert np.allclose(probabilities, expected.detach() / 2, atol=1e-6)


def test_the_loss_is_the_cross_entropy_with_the_teachers(start, outputs, folders):
    runner = start(outputs, *words(folders))
    module, data, _ = prepare(runner.stages[-1], runner.config)
    batch = data.image_set("train").__getitems__(range(4))
    batch = batch._replace(images=data.to_input(batch.images))
    module.eval()  # without dropout
    module.log = lambda *_, **__: None
    loss = module.training_step(batch, 0)
    soft = module.teacher(batch.images)
    expected = -(soft * module(batch.images).log_softmax(1)).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    module.teacher = None
    assert module.training_step(batch, 0).item() != pytest.approx(expected.item(), rel=1e-3)


def test_a_student_is_trained_recorded_and_compared(start, outputs, folders, tmp_path):
    plain = json.loads((folders[0] / "metrics.json").read_text())
    folder = start(outputs, *words(folders), "seed=0").run()
    record = json.loads((folder / "metrics.json").read_text())
    assert record["condition"] == "distil"
    assert folder.name.startswith("distil-r1-s0-")
    assert record["stages"][-1]["key"] != plain["stages"][-1]["key"]
    a, b = (network_state(one / "checkpoints" / "best.ckpt") for one in (folder, folders[0]))
    assert a.keys() == b.keys()  # the teachers' weights are in no checkpoint
    assert any(not torch.equal(a[name], b[name]) for name in a)
    assert [one.condition for one in restore_runs([folder])] == ["distil"]
    # The key depends on the runs, and not on where they lie or in which order they are given.
    moved = tmp_path / "elsewhere" / "runs"
    shutil.copytree(outputs / "runs", moved)
    other = start(outputs, *words(moved / one.name for one in reversed(folders)), "seed=0")
    assert other.folder == folder
    assert start(outputs, *words(folders[:1]), "seed=0").folder != folder
    assert start(outputs, "chain=[target]").folder == folders[0]


def test_teachers_with_images_that_the_student_is_tested_on_are_refused(start, outputs, folders):
    with pytest.raises(UserError, match="not those of this run"):
        start(outputs, *words(folders), "domain.target.split_seed=1")


def test_teachers_with_labels_that_the_student_lacks_are_refused(start, tmp_path):
    """Below ratio 1 each seed has other images, so that two seeds have more labels than one."""
    teachers = [start(tmp_path, "chain=[target]", "ratio=0.5", f"seed={seed}").run()
                for seed in (0, 1)]  # fmt: skip
    with pytest.raises(UserError, match="seed=1"):
        start(tmp_path, *words(teachers), "ratio=0.5", "seed=0")
    assert start(tmp_path, *words(teachers[:1]), "ratio=0.5", "seed=0").stages


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ratio=0.5", "ratio=1"),
        ("model.input_size=83", "size, mean or std"),
        ("domain.target.options.scale=0.2", "not those of this run"),
    ],
)
def test_teachers_of_another_kind_are_refused(start, outputs, folders, change, message):
    with pytest.raises(UserError, match=message):
        start(outputs, *words(folders), change)


def test_teachers_with_other_classes_are_refused(start, outputs, folders, tmp_path):
    copy = tmp_path / "runs" / folders[0].name
    shutil.copytree(folders[0], copy)
    record = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").write_text(json.dumps({**record, "classes": record["classes"][::-1]}))
    with pytest.raises(UserError, match="other classes"):
        start(outputs, *words([copy]))


def test_what_is_no_finished_run_is_refused(start, outputs, tmp_path):
    # A folder of runs would hold the student itself as soon as this has begun.
    for path in (tmp_path / "nothing", outputs / "runs"):
        with pytest.raises(UserError, match=f"teacher: {path}: "):
            start(outputs, *words([path]))
    with pytest.raises(UserError, match="teacher="):
        start(outputs, *words([]))


def test_each_network_counts_alike():
    networks = [torch.nn.Flatten(), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9))]
    images = torch.rand(5, 3, 1, 1) * 4
    found = Teachers(networks, [1.0, 2.0])(images)
    flat = images.flatten(1)
    assert torch.allclose(found, (flat.softmax(1) + (flat / 2).softmax(1)) / 2)
    assert torch.allclose(found.sum(1), torch.ones(5))
