"""Frozen layers are computed once an image, with the numbers that they give each epoch."""

import errno
import logging
import os

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import SMALL
from stagetransfer.config.schema import Model, Recipe
from stagetransfer.config.validate import validate_config
from stagetransfer.data import StageSettings, TargetDataModule
from stagetransfer.files import read_json
from stagetransfer.models import InputSpec, alexnet_backbone
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.stage import prepare
from stagetransfer.training import ClassifierModule
from stagetransfer.training.feature_cache import FeatureDataModule, FeatureSet

PLAIN = "trainer.frozen_features_gib=0"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    network = alexnet_backbone(5, input=InputSpec(67))
    network.initialise("kaiming", 0)
    path = tmp_path_factory.mktemp("weights") / "natural.pt"
    torch.save(network.state(), path)
    return path


@pytest.fixture(scope="module")
def start(compose_config, source):
    def started(outputs, *overrides):
        small = [word for word in SMALL if "natural" not in word and "texture" not in word]
        asked = [
            "+experiment=layerwise", "domain/natural=pretrained",
            f"domain.natural.weights={source}", *small, "recipe.balance=none",
            f"paths.outputs={outputs}", *overrides,
        ]  # fmt: skip
        return ChainRunner(validate_config(compose_config(*asked)))

    return started


def make_ready(runner):
    """What a run does for its last stage before it trains it."""
    return prepare(runner.stages[-1], runner.config)


def entries(outputs):
    return sorted(path.parent for path in (outputs / "features").glob("*/DONE"))


def check_same(one, other, atol=2e-4):
    """Compare two ways of computing the same: equal except for the last bits of a float."""
    metrics = [read_json(folder / "metrics.json") for folder in (one, other)]
    assert metrics[0]["stages"][-1]["frozen"] == metrics[1]["stages"][-1]["frozen"]
    tables = [pd.read_csv(folder / "predictions.csv") for folder in (one, other)]
    assert tables[0].id.equals(tables[1].id)
    columns = [name for name in tables[0] if name.startswith("p_")]
    np.testing.assert_allclose(tables[0][columns], tables[1][columns], rtol=0, atol=atol)


# bfloat16 keeps 8 bits of a number's fraction, and images are computed in batches of other sizes.
@pytest.mark.parametrize(("precision", "atol"), [("32-true", 2e-4), ("bf16-mixed", 5e-3)])
@pytest.mark.parametrize("depth", ["fc7", "conv4"])
def test_the_same_metrics_with_features_and_without(start, tmp_path, depth, precision, atol):
    same = (
        f"transfer.tune_from={depth}", "model.dropout=0.3", f"trainer.precision={precision}",
    )  # fmt: skip
    fast = start(tmp_path / "fast", *same).run()
    plain = start(tmp_path / "plain", *same, PLAIN).run()
    assert fast.name != plain.name  # the last bits may differ
    assert len(entries(tmp_path / "fast")) == 1
    assert not entries(tmp_path / "plain")
    check_same(fast, plain, atol)


def test_a_full_disk_is_an_error_and_no_sigbus(start, disk):
    outputs = disk("size=1m")
    with pytest.raises(OSError, match=str(outputs)) as caught:
        make_ready(start(outputs, "transfer.tune_from=fc8"))
    assert caught.value.errno == errno.ENOSPC
    disk("size=20m")
    _, shown, _ = make_ready(start(outputs, "transfer.tune_from=fc8"))
    assert isinstance(shown, FeatureDataModule)
    assert len(entries(outputs)) == 1
    assert not list(outputs.glob("features/*.partial"))


def test_siblings_share_the_features_and_a_changed_one_does_not(start, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    make_ready(start(tmp_path, "transfer.tune_from=fc8"))
    (entry,) = entries(tmp_path)
    written = {path.name: path.stat().st_mtime_ns for path in entry.glob("*.npy")}
    assert set(written) == {"train.npy", "validation.npy", "test.npy"}
    assert "computed once" in caplog.text
    caplog.clear()
    sibling = ("seed=1", "ratio=0.5", "recipe.optimizer.lr=0.01", "recipe.balance=downsample")
    make_ready(start(tmp_path, "transfer.tune_from=fc8", *sibling))
    assert "outputs reused" in caplog.text
    assert entries(tmp_path) == [entry]
    assert {path.name: path.stat().st_mtime_ns for path in entry.glob("*.npy")} == written
    for other in ("domain.target.crop=0.1", "transfer.tune_from=fc6", "trainer.winograd=false"):
        before = len(entries(tmp_path))
        make_ready(start(tmp_path, "transfer.tune_from=fc8", other))
        assert len(entries(tmp_path)) == before + 1, other


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("domain.target.augment=true", "domain.target draws random variants (mirror, turn)"),
        ("trainer.frozen_features_gib=1e-6", "their outputs would take 0.0 GiB"),
    ],
)
def test_what_stands_in_the_way_is_said_in_one_line(start, tmp_path, caplog, override, why):
    caplog.set_level(logging.INFO)
    make_ready(start(tmp_path, "transfer.tune_from=fc8", override))
    messages = [record.message for record in caplog.records if "frozen blocks" in record.message]
    assert len(messages) == 1
    assert why in messages[0]
    assert not entries(tmp_path)


def test_a_kill_amid_the_features_leaves_nothing_that_passes_for_them(start, tmp_path, monkeypatch):
    from stagetransfer.training import feature_cache

    class Killed(Exception):
        pass

    def kill(*arguments):
        raise Killed

    original = feature_cache._append
    monkeypatch.setattr(feature_cache, "_append", kill)
    with pytest.raises(Killed):
        make_ready(start(tmp_path / "a", "transfer.tune_from=fc7"))
    assert not entries(tmp_path / "a")
    monkeypatch.setattr(feature_cache, "_append", original)
    for name, size in (("a", 16), ("b", 5)):  # runs of any batch size share the features
        batches = f"recipe.batch_size={size}"
        make_ready(start(tmp_path / name, "transfer.tune_from=fc7", batches))
    (one,), (two,) = entries(tmp_path / "a"), entries(tmp_path / "b")
    for name in ("train.npy", "validation.npy", "test.npy"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def module_of(dropout=0.5, variant="paper"):
    model = Model(input_size=67, dropout=dropout, variant=variant)
    return ClassifierModule(model, ["a", "b"], Recipe())


@pytest.mark.parametrize(
    ("variant", "first", "live"),
    [
        ("paper", "fc8", ["drop7"]),
        ("paper", "fc7", ["drop6", "drop7"]),
        ("paper", "conv3", ["drop6", "drop7"]),
        ("torchvision", "fc8", []),
        ("torchvision", "fc7", ["drop7"]),
    ],
)
def test_dropout_is_drawn_from_the_first_tuned_layers_input_on(variant, first, live):
    module = module_of(variant=variant)
    module.set_frozen_blocks(LAYERS[: LAYERS.index(first)])
    module.train()
    module.on_train_epoch_start()
    drops = {
        n: m for n, m in module.network.net.named_children() if isinstance(m, torch.nn.Dropout)
    }
    assert [name for name, drop in drops.items() if drop.training] == live
    x = torch.rand(2, 3, 67, 67)
    features = module.prefix.features(x)
    assert torch.equal(features, module.prefix.features(x))
    assert not features.requires_grad
    module.eval()
    assert torch.equal(module(x), module.network(x))
    found = module.prefix.rest(features, training=False)
    torch.testing.assert_close(found, module(x), rtol=1e-5, atol=1e-6)


def test_images_that_are_held_and_those_on_disk_are_the_same(tmp_path):
    np.save(tmp_path / "train.npy", np.random.default_rng(0).random((9, 5), dtype=np.float32))
    array = np.load(tmp_path / "train.npy", mmap_mode="r")
    places, labels, rows = np.array([1, 4, 7]), np.array([0, 1, 0]), np.array([10, 40, 70])
    sets = [FeatureSet(array, places, labels, rows, limit) for limit in (1e9, 0)]
    assert (sets[0].held is None, sets[1].held is None) == (False, True)
    batches = [part.__getitems__([2, 0]) for part in sets]
    assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))
    assert batches[0].rows.tolist() == [70, 10]
    assert torch.equal(batches[0].features, torch.from_numpy(array[[7, 1]]))


def test_features_stand_at_the_place_of_their_image():
    stage = StageSettings("target", ratio=0.5, batch_size=4)
    data = TargetDataModule(stage, layout="embedded", options={"scale": 0.2}).read()
    rows = data.all_rows["train"].astype(np.float32)
    features = FeatureDataModule(data, {"train": np.stack([rows, rows], axis=1)})
    batch = next(iter(features.train_dataloader()))
    assert batch.features[:, 0].tolist() == batch.rows.tolist()
    assert batch.labels.tolist() == data.samples.labels[batch.rows].tolist()


def test_a_source_without_test_images_can_have_frozen_layers(start, tmp_path):
    run = start(
        tmp_path, "chain=[natural,texture,target]", "transfer.tune_from=fc8",
        "+domain.texture.options.per_class=20", "stage.texture.recipe.epochs=1",
        "++stage.texture.transfer.tune_from=fc8", "domain.texture.augment=false",
        "++stage.texture.require_learning=false", "recipe.epochs=1",
    ).run()  # fmt: skip
    assert len(entries(tmp_path)) == 2
    assert os.path.getsize(run / "predictions.csv") > 0


def test_the_limit_of_the_cache_is_hashed_only_where_features_can_be_cached(start, tmp_path):
    for words, same in (
        (["transfer.tune_from=fc8"], False),
        (["transfer.mode=frozen", "transfer.tune_from=null"], False),
        (["transfer.search=[conv5,fc6]", "transfer.tune_from=null"], False),
        (["transfer.tune_from=fc8", "domain.target.augment=true"], True),
    ):
        runs = [start(tmp_path, *words, *own).folder for own in ([], [PLAIN])]
        assert (runs[0] == runs[1]) is same, words
