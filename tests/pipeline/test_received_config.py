"""The settings, stages and checkpoints of a received run: nothing that they name is executed."""

import os
import pickle
import shutil
import zipfile

import pytest
import torch
from omegaconf import OmegaConf, open_dict
from PIL import Image

from conftest import SMALL
from made_runs import make_run
from stagetransfer.config.instantiate import partial_of
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.layouts import read
from stagetransfer.layouts.write_shards import write_packed
from stagetransfer.models import load_weights
from stagetransfer.pipeline.restore import restore_runs
from stagetransfer.pipeline.stage_store import StageStore
from stagetransfer.training import set_aside_damaged


class Payload:
    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return os.mkdir, (str(self.made),)


@pytest.fixture
def received(compose_config, tmp_path):
    """Returns a function that makes a finished run and changes its settings."""

    def make(**changes):
        folder = make_run(tmp_path / "outputs")
        tree = validate_config(compose_config(*SMALL, "+experiment=scratch")).tree
        tree = OmegaConf.create(tree)
        for key, value in changes.items():
            OmegaConf.update(tree, key.replace("__", "."), value, force_add=True)
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(tree))
        (folder / "checkpoints").mkdir()
        torch.save({}, folder / "checkpoints" / "best.ckpt")
        return folder

    return make


def attacks(tmp_path):
    made = tmp_path / "made"
    (tmp_path / "payload.pkl").write_bytes(pickle.dumps(Payload(made)))
    file = str(tmp_path / "payload.pkl")
    copy = {"_target_": "shutil.copyfile", "src": file, "dst": str(made)}
    yield {"domain__target__options": {"groups": {"_target_": "os.mkdir", "path": str(made)}}}
    pandas = {"_target_": "pandas.read_pickle", "filepath_or_buffer": file}
    yield {"domain__target__options": {"groups": pandas}}
    loading = {"_target_": "torch.load", "f": file, "weights_only": False}
    yield {"domain__target__options": {"max_classes": loading}}
    yield {"domain__target__options": {"x": [[copy]]}}
    yield {"domain__target": copy}
    yield {"recipe__optimizer__betas": copy}
    yield {"domain__target___target_": "functools.partial"}
    yield {"domain__target__root": "${oc.env:HOME}"}
    for option in ("checkpoint_path", "pretrained_cfg"):
        yield {"model": {"library": "timm", "name": "resnet10t", "options": {option: file}}}


@pytest.mark.parametrize("number", range(10))
def test_a_received_run_is_not_executed(received, tmp_path, number):
    folder = received(**list(attacks(tmp_path))[number])
    with pytest.raises(UserError) as caught:
        _ = restore_runs([folder])[0].data
    assert "has changed since" not in str(caught.value)
    assert str(folder / "config.yaml") in str(caught.value)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("complete", [False, True])
def test_nothing_is_downloaded_for_a_received_run(received, tmp_path, complete):
    pytest.importorskip("litdata")
    images, bucket, root = tmp_path / "images", tmp_path / "bucket", tmp_path / "root"
    for label in ("a", "b"):
        (images / label).mkdir(parents=True)
        for grey in range(8):
            Image.new("L", (8, 8), grey).save(images / label / f"{grey}.png")
    write_packed(read("folder", images), images, bucket)
    root.mkdir()
    if complete:
        shutil.copytree(bucket, root, dirs_exist_ok=True)
    before = {path.name for path in root.iterdir()}
    folder = received(domain__target__layout="litdata", domain__target__root=str(root))
    file = folder / "config.yaml"
    settings = OmegaConf.load(file)
    settings.domain.target.options = {"url": f"local:{'/nowhere' if complete else bucket}"}
    file.write_text(OmegaConf.to_yaml(settings))
    expected = "has changed since this run" if complete else f"^{root / 'pack.json'}: cannot be"
    with pytest.raises(UserError, match=expected):
        _ = restore_runs([folder])[0].data
    assert {path.name for path in root.iterdir()} == before


def test_keywords_are_data():
    nested = {"_target_": "os.mkdir", "path": "/nowhere/at/all"}
    assert partial_of({"_target_": f"{__name__}.Payload", "made": nested}, "x")().made == nested


def test_training_refuses_nested_targets_and_takes_own_classes(compose_config):
    nested = "{_target_: os.mkdir, path: /nowhere}"
    for key in ("domain.target.options.x", "recipe.optimizer.x", "logger.csv.x", "callbacks.a.x.y"):
        outer = ["+callbacks.a._target_=pytorch_lightning.Callback"]
        with pytest.raises(UserError, match=f"{key}._target_: not allowed"):
            validate_config(compose_config(*outer, f"+{key}={nested}"))
    validate_config(compose_config("domain.target._target_=my_package.MyData"))


@pytest.mark.parametrize(
    ("group", "option"),
    [("timm", "pretrained"), ("timm", "checkpoint_path"), ("torchvision_zoo", "weights")],
)
def test_no_option_of_a_network_loads_weights(compose_config, group, option):
    """They would be part of a start from scratch, which no report shows."""
    words = (f"model={group}", "model.name=resnet18", f"+model.options.{option}=true")
    with pytest.raises(UserError, match=rf"model\.options\.{option}: "):
        validate_config(compose_config("+experiment=scratch", *words))


def test_a_chain_names_folders(compose_config):
    cfg = compose_config("+experiment=scratch", "condition=x")
    with open_dict(cfg):
        cfg.chain, cfg.domain["../../x"] = ["../../x"], cfg.domain.target
    with pytest.raises(UserError, match="it names a folder"):
        validate_config(cfg)


@pytest.mark.parametrize("text", ["", "a: [", "[]", "chain: 3", "domain: 3\nchain: [a]", "{}"])
def test_damaged_settings(received, text):
    folder = received()
    (folder / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config.yaml: .*Leave the run out"):
        restore_runs([folder])


@pytest.mark.parametrize("text", ['{"stages": [{', "[]", "{}", '{"stages": []}', '{"stages": 3}'])
def test_a_cut_stage(tmp_path, text):
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "stage.json").write_text(text)
    with pytest.raises(UserError, match=r"stage.json: .*Remove the folder .*trained again"):
        StageStore(tmp_path).record("abc")


def test_a_compressed_checkpoint_is_not_inflated(tmp_path):
    torch.save({"conv1.weight": torch.zeros(2**20)}, tmp_path / "plain.ckpt")
    bomb = tmp_path / "bomb.ckpt"
    with (
        zipfile.ZipFile(tmp_path / "plain.ckpt") as plain,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert load_weights(tmp_path / "plain.ckpt")["conv1.weight"].numel() == 2**20
    with pytest.raises(UserError, match="damaged"):
        load_weights(bomb)


def whole_checkpoint():
    whole = {key: [] for key in ("optimizer_states", "lr_schedulers", "loops")}
    return whole | {"state_dict": {"a": torch.zeros(9999)}, "epoch": 3, "callbacks": {}}


@pytest.mark.parametrize("kind", ["garbage", "empty", "cut", "pickle", "other"])
def test_a_damaged_last_checkpoint_is_set_aside(tmp_path, kind, caplog):
    last = tmp_path / "last.ckpt"
    torch.save(whole_checkpoint(), last)
    set_aside_damaged(tmp_path)
    assert last.exists()
    content = {
        "garbage": b"garbage" * 99,
        "empty": b"",
        "cut": last.read_bytes()[:-999],
        "pickle": pickle.dumps(Payload(tmp_path / "made")),
    }
    if kind == "other":
        torch.save({"state_dict": {}}, last)
    else:
        last.write_bytes(content[kind])
    set_aside_damaged(tmp_path)
    assert {*tmp_path.iterdir()} == {tmp_path / "last.ckpt.damaged"}
    assert "the stage starts again" in caplog.text
    set_aside_damaged(tmp_path)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("best", "moved"), [(b"cut", 2), (None, 1), ("whole", 0)])
def test_a_damaged_best_checkpoint_starts_the_stage_again(tmp_path, best, moved):
    """Otherwise the last epoch would be chosen in silence, or the test would fail at the end."""
    last, file = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    chosen = {"ModelCheckpoint": {"best_model_path": str(file)}}
    torch.save(whole_checkpoint() | {"callbacks": chosen}, last)
    if best == "whole":
        torch.save({"state_dict": {}}, file)
    elif best is not None:
        file.write_bytes(best)
    mine = {"ModelCheckpoint{mine}": {"best_model_path": "/elsewhere/mine.ckpt"}}  # of the user
    torch.save(whole_checkpoint() | {"callbacks": chosen | mine}, last)
    set_aside_damaged(tmp_path)
    assert len([*tmp_path.glob("*.damaged")]) == moved
    assert last.exists() == (moved == 0)
    if best is None:  # a checkpoint within the first epoch: nothing was chosen yet
        torch.save(whole_checkpoint() | {"callbacks": mine}, last)
        set_aside_damaged(tmp_path)
        assert last.exists()
