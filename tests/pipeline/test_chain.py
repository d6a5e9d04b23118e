"""The main job on little data: the files of a run, shared stages and reproducible results."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.metrics import accuracy_score, log_loss, recall_score

from made_runs import make_run
from stagetransfer.cli.run_summary import print_summary
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.pipeline.restore import restore_runs
from stagetransfer.runs.reader import read_runs


def comparable(folder):
    """The metrics that must not differ between two runs of the same command."""
    metrics = read_json(folder / "metrics.json")
    for stage in metrics["stages"]:
        for name in ("seconds", "images_per_second", "reused"):
            del stage[name]
    return metrics


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def two_stage(start, outputs):
    return start(outputs, "+experiment=two_stage").run()


def test_more_devices_than_there_are_are_refused(start, tmp_path):
    """On a processor, 99 processes would wait for each other."""
    with pytest.raises(UserError, match=r"trainer.devices=999: there are \d+ "):
        start(tmp_path, "+experiment=scratch", "trainer.devices=999")


def test_the_files_of_a_finished_run(two_stage, outputs):
    assert two_stage.parent == outputs / "runs"
    assert two_stage.name.startswith("two_stage-r1-s0-")
    assert len(two_stage.name.rsplit("-", 1)[1]) == 8
    files = {path.name for path in two_stage.iterdir()}
    assert files == {
        "config.yaml", "overrides.yaml", "metrics.json", "predictions.csv", "validation.csv",
        "checkpoints", "tensorboard", "logs",
    }  # fmt: skip
    assert [path.name for path in (two_stage / "checkpoints").iterdir()] == ["best.ckpt"]
    for logs in ("tensorboard", "logs"):
        assert {path.name for path in (two_stage / logs).iterdir()} == {
            "1-natural", "2-texture", "3-target",
        }  # fmt: skip
    stages = [path for path in (outputs / "stages").iterdir() if not path.name.startswith(".")]
    assert len(stages) == 2
    for stage in stages:
        assert {path.name for path in stage.iterdir()} == {
            "model.ckpt", "stage.json", "DONE", "tensorboard", "logs",
        }  # fmt: skip


def test_metrics_json_has_the_documented_keys(two_stage):
    metrics = read_json(two_stage / "metrics.json")
    assert set(metrics) >= {
        "condition", "chain", "ratio", "seed", "test", "per_class", "confusion", "classes",
        "num_train", "num_test", "stages", "versions",
    }  # fmt: skip
    assert set(metrics["test"]) >= {
        "accuracy", "precision", "recall", "f1", "cross_entropy", "auroc",
    }  # fmt: skip
    assert metrics["chain"] == ["natural", "texture", "target"]
    assert metrics["classes"] == ["CON", "GGO", "HCM", "RET", "EMP", "NOD", "NOR"]
    assert np.sum(metrics["confusion"]) == metrics["num_test"]
    natural, texture, target = metrics["stages"]
    assert natural["carried"] == natural["reinitialised"] == natural["frozen"] == []
    for stage in (texture, target):
        assert stage["carried"] == [f"{n}.{k}" for n in LAYERS[:6] for k in ("weight", "bias")]
        assert stage["reinitialised"] == [
            f"{n}.{k}" for n in LAYERS[6:] for k in ("weight", "bias")
        ]
    assert all(stage["images_per_second"] > 0 for stage in metrics["stages"])


def test_the_test_metrics_agree_with_predictions_csv(two_stage):
    metrics = read_json(two_stage / "metrics.json")
    table = pd.read_csv(two_stage / "predictions.csv")
    classes = metrics["classes"]
    assert list(table) == ["id", "group", "label", "prediction", *(f"p_{c}" for c in classes)]
    assert len(table) == metrics["num_test"]
    assert table.id.is_unique
    probabilities = table[[f"p_{c}" for c in classes]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-12)
    assert (table.prediction == np.array(classes)[probabilities.argmax(1)]).all()
    test = metrics["test"]
    assert test["accuracy"] == pytest.approx(accuracy_score(table.label, table.prediction))
    recall = recall_score(table.label, table.prediction, average="macro", zero_division=0)
    assert test["recall"] == pytest.approx(recall)
    labels = [classes.index(name) for name in table.label]
    loss = log_loss(labels, probabilities, labels=range(len(classes)))
    assert test["cross_entropy"] == pytest.approx(loss, rel=1e-9)


def test_checkpoints_are_readable_without_unpickling_code(two_stage, outputs):
    for path in [*outputs.rglob("model.ckpt"), two_stage / "checkpoints" / "best.ckpt"]:
        content = torch.load(path, weights_only=True)
        assert content["hyper_parameters"]["model"]["variant"] == "paper"


def test_a_run_on_a_few_batches_says_how_many_images_it_was_tested_on(start, tmp_path):
    run = start(tmp_path, "+experiment=scratch", "trainer.fast_dev_run=1").run()
    ((found,), _) = read_runs([run])  # which refuses a record that its files contradict
    record = read_json(run / "metrics.json")
    assert record["num_test"] == len(found.ids) == 16
    assert record["num_validation"] == 16 < record["stages"][-1]["num_validation"]


def test_the_carried_weights_are_those_of_the_previous_stage(start, outputs, two_stage):
    """Frozen layers end the target stage with exactly the weights of the source stage."""
    run = start(outputs, "+experiment=two_stage", "transfer.mode=frozen").run()
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    key = read_json(run / "metrics.json")["stages"][1]["key"]
    source = torch.load(outputs / "stages" / key / "model.ckpt", weights_only=True)["state_dict"]
    record = read_json(run / "metrics.json")["stages"][2]
    assert record["frozen"] == record["carried"]
    for name in record["carried"]:
        assert torch.equal(state[f"network.net.{name}"], source[name])
    assert [stage["reused"] for stage in read_json(run / "metrics.json")["stages"]] == [
        True, True, False,
    ]  # fmt: skip


def test_the_same_command_finds_the_finished_run(start, outputs, two_stage):
    before = (two_stage / "metrics.json").stat().st_mtime_ns
    again = start(outputs, "+experiment=two_stage")
    assert again.finished
    assert again.run() == two_stage
    assert (two_stage / "metrics.json").stat().st_mtime_ns == before


def test_the_same_command_and_seed_give_the_same_metrics(start, outputs, two_stage, tmp_path):
    again = start(tmp_path, "+experiment=two_stage").run()
    assert comparable(again) == comparable(two_stage)
    assert (again / "predictions.csv").read_bytes() == (two_stage / "predictions.csv").read_bytes()
    assert again.name == two_stage.name  # the hash does not include paths


def test_only_settings_that_decide_the_result_change_the_run_name(start, tmp_path):
    def name(*overrides):
        return start(tmp_path, "+experiment=natural", *overrides).folder.name[-8:]

    base = name()
    for same in ("trainer.keep_memory=false", "domain.target.workers=1", "condition=other"):
        assert name(same) == base, same
    names = [
        name(change)
        for change in (
            "seed=1", "source_seed=1", "ratio=0.5", "recipe.epochs=3", "recipe.optimizer.lr=0.1",
            "model.dropout=0.4", "transfer.reinitialise=[fc8]", "domain.natural.mirror=false",
            "domain.target.split_seed=1", "trainer.precision=bf16-mixed",
            "++stage.natural.recipe.epochs=1", "domain.target.options.scale=0.16",
            "trainer.winograd=false", "trainer.channels_last=false", "trainer.benchmark=true",
            "trainer.deterministic=false",
        )
    ]  # fmt: skip
    assert len({base, *names}) == len(names) + 1


def test_a_killed_stage_resumes_from_its_last_checkpoint(start, tmp_path, monkeypatch):
    """A run killed after the first epoch and resumed equals an uninterrupted run bit for bit."""
    whole = start(tmp_path / "whole", "+experiment=natural").run()

    from stagetransfer.training.callbacks import SeedEpoch

    class Killed(Exception):
        pass

    def kill(self, trainer, module):
        if trainer.current_epoch == 1:
            raise Killed
        original(self, trainer, module)

    original = SeedEpoch.on_train_epoch_start
    for _ in range(2):  # once in the source stage, once in the target
        monkeypatch.setattr(SeedEpoch, "on_train_epoch_start", kill)
        with pytest.raises(Killed):
            start(tmp_path / "broken", "+experiment=natural").run()
        monkeypatch.setattr(SeedEpoch, "on_train_epoch_start", original)
        if not list((tmp_path / "broken" / "stages").glob("*/DONE")):
            runner = start(tmp_path / "broken", "+experiment=natural")
            runner._sources(1)
    resumed = start(tmp_path / "broken", "+experiment=natural").run()
    assert comparable(resumed) == comparable(whole)
    assert (resumed / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    shutil.rmtree(tmp_path)


def test_a_chain_of_other_domains_with_half_of_the_target(start, outputs):
    run = start(
        outputs, "+domain/texture@domain.second=embedded",
        "+domain.second.options.per_class=20", "+domain.second.options.seed=9",
        "chain=[texture,second,target]",
        "ratio=0.5", "recipe.epochs=1", "++stage.second.require_learning=false",
    ).run()  # fmt: skip
    metrics = read_json(run / "metrics.json")
    assert metrics["condition"] == "texture-second-target"
    assert [stage["name"] for stage in metrics["stages"]] == ["texture", "second", "target"]
    full = start(outputs, "+experiment=scratch").stages[0].data
    assert metrics["num_train"] == pytest.approx(full.count("train") / 2, abs=4)
    assert metrics["num_test"] == full.count("test")


def test_pretrained_weights_replace_a_stage(start, outputs, two_stage):
    key = read_json(two_stage / "metrics.json")["stages"][1]["key"]
    weights = outputs / "stages" / key / "model.ckpt"
    run = start(
        outputs, "+experiment=natural", "domain/natural=pretrained",
        f"domain.natural.weights={weights}", "~domain.natural.options", "recipe.epochs=1",
    ).run()  # fmt: skip
    first = read_json(run / "metrics.json")["stages"][0]
    assert first["weights"] == str(weights)
    assert first["epochs"] == 0


def test_the_summary_fits_80_columns(two_stage):
    from rich.console import Console

    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_summary(two_stage, console)
    text = console.export_text()
    assert "conv1-fc6" in text
    assert "tensorboard --logdir" in text
    tables = text.split("run  ")[0].splitlines()
    assert max(len(line) for line in tables) <= 80
    accuracy = read_json(two_stage / "metrics.json")["test"]["accuracy"]
    assert f"{accuracy:.4f}" in text


def test_a_first_run_ends_with_the_command_of_a_comparison(two_stage, compose_config, tmp_path):
    from rich.console import Console

    def printed(folder):
        console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        print_summary(folder, console)
        return console.export_text()

    first = tmp_path / "runs" / two_stage.name
    shutil.copytree(two_stage, first)
    given = [
        "+experiment=two_stage",
        "seed=4",
        "recipe.epochs=1",
        "+domain.target.options.scale=0.2",
    ]
    (first / "overrides.yaml").write_text(OmegaConf.to_yaml(given))
    text = printed(first)
    (line,) = (line for line in text.splitlines() if "python train.py" in line)
    words = line.split()[2:]
    assert words[:3] == ["-m", "+experiment=scratch,two_stage", "seed=0,1,2"]
    assert words[3:] == given[2:]
    validate_config(compose_config(*(word.split(",")[0] for word in words[1:])))
    assert f"{1 / 7:.3f}" in text
    shutil.copytree(first, tmp_path / "runs" / "second")
    assert "python train.py" not in printed(first)


@pytest.mark.parametrize("dead", [False, True])
def test_a_summary_says_whether_a_doubtful_run_is_compared(tmp_path, capsys, dead):
    low = {"verdict": "not above chance", "recall": 0.35, "low": 0.2, "high": 0.5}
    file = make_run(tmp_path, dead=dead, health=low) / "metrics.json"
    metrics = read_json(file)
    metrics["stages"][0] |= {"blocks": {}, "frozen": []}
    file.write_text(json.dumps(metrics))
    print_summary(file.parent)
    assert ("report compares" in " ".join(capsys.readouterr().out.split())) is not dead


def test_metrics_contain_no_nan(two_stage):
    def fail(constant):
        raise ValueError(constant)

    json.loads((two_stage / "metrics.json").read_text(), parse_constant=fail)
    assert math.isfinite(read_json(two_stage / "metrics.json")["test"]["cross_entropy"])


def test_a_run_of_version_0_1_can_be_restored(two_stage, tmp_path):
    folder = tmp_path / "runs" / two_stage.name
    shutil.copytree(two_stage, folder)
    config = OmegaConf.load(folder / "config.yaml")
    config.trainer.pictures = 0
    for key in ("callbacks", "logger"):  # keys that 0.1 did not have
        del config[key]
    OmegaConf.save(config, folder / "config.yaml")
    (run,) = restore_runs([folder])
    assert run.config.trainer == restore_runs([two_stage])[0].config.trainer
    assert run.network().training is False


def test_a_chain_of_sources_is_stored_and_later_runs_reuse_it(start, tmp_path):
    alone = start(tmp_path, "chain=[natural,texture]")
    assert not alone.finished
    folder = alone.run()
    assert alone.finished
    assert folder.parent == tmp_path / "stages"
    assert not (tmp_path / "runs").exists()
    entries = read_json(folder / "stage.json")["stages"]
    assert [entry["name"] for entry in entries] == ["natural", "texture"]
    chain = start(tmp_path, "+experiment=two_stage")
    assert [stage.key for stage in chain.stages[:2]] == [stage.key for stage in alone.stages]
    records = read_json(chain.run() / "metrics.json")["stages"]
    assert [record["reused"] for record in records] == [True, True, False]
    with pytest.raises(UserError, match="other runs share"):
        start(tmp_path, "chain=[natural,texture]", "force=true").run()
