"""Options of every experiment: class balance, ratio by group, averaged tests, bad values."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stagetransfer.config.validate import validate_config
from stagetransfer.data import StageSettings, TargetDataModule
from stagetransfer.data.subset import downsample, subset_by_image
from stagetransfer.errors import UserError
from stagetransfer.files import read_json


def target(**options):
    stage = StageSettings("target", **options)
    return TargetDataModule(stage, layout="embedded", options={"scale": 0.3}).read()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 5))
def test_downsampling_leaves_as_many_images_of_each_class_as_of_the_rarest(labels, seed):
    labels = np.array(labels)
    rows = downsample(labels, np.arange(len(labels)), seed)
    counts = np.unique(labels, return_counts=True)[1]
    assert (np.unique(labels[rows], return_counts=True)[1] == counts.min()).all()
    assert len(set(rows.tolist())) == len(rows) == counts.min() * len(counts)


def test_downsampled_subsets_are_nested_and_depend_on_the_seed():
    labels = np.repeat([0, 1, 2], [60, 20, 90])
    parts = [
        downsample(labels, subset_by_image(labels, r, 3, ("a", "b", "c")), 3)
        for r in (0.2, 0.5, 1.0)
    ]
    assert [len(part) for part in parts] == [12, 30, 60]
    assert set(parts[0]) < set(parts[1]) < set(parts[2])
    assert set(downsample(labels, np.arange(170), 4)) != set(parts[2])


def test_the_data_module_downsamples_only_training_images():
    plain, balanced = target(seed=1), target(seed=1, downsampled=True)
    rarest = min(plain.count_by_class("train").values())
    assert set(balanced.count_by_class("train").values()) == {rarest}
    for split in ("validation", "test"):
        assert np.array_equal(plain.rows[split], balanced.rows[split])


def test_the_ratio_by_group_takes_whole_patients():
    whole, half = target(), target(ratio=0.5, ratio_by="group")
    groups = np.array(whole.samples.groups)
    for split in ("train", "validation"):
        taken = set(groups[half.rows[split]])
        of_taken = [row for row in whole.rows[split] if groups[row] in taken]
        assert half.rows[split].tolist() == of_taken
        assert set(half.samples.labels[half.rows[split]]) == set(range(7))
    assert half.count("train") == pytest.approx(whole.count("train") / 2, rel=0.35)
    assert np.array_equal(half.rows["test"], whole.rows["test"])


def test_a_ratio_by_group_without_groups_is_refused(tmp_path):
    from PIL import Image

    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(12):
            Image.new("L", (20, 20), i).save(tmp_path / label / f"{i}.png")
    stage = StageSettings("target", ratio=0.5, ratio_by="group")
    with pytest.raises(UserError, match=r"ratio_by=group: domain\.target knows no groups"):
        TargetDataModule(stage, layout="folder", root=tmp_path).read()


def test_options_at_their_default_do_not_change_run_names(start, tmp_path):
    def name(*overrides):
        return start(tmp_path, "+experiment=natural", *overrides).folder.name

    base = name()
    # Options without effect here: no ratio, no frozen layers.
    for same in ("ratio_by=group", "trainer.frozen_features_gib=1"):
        assert name(same) == base, same
    off = name("domain.target.mirror=false", "domain.target.turn=false")
    assert name("domain.target.augment=false") == off != base
    names = [
        name(change)
        for change in (
            "recipe.min_steps=9", "test_copies=4", "recipe.balance=downsample",
            "transfer.probe_epochs=1", "transfer=rate_decay", "recipe.monitor=auroc",
        )
    ]  # fmt: skip
    assert len({base, *names}) == len(names) + 1
    assert name("ratio=0.5") != name("ratio=0.5", "ratio_by=group")
    sources = [
        start(tmp_path, "+experiment=natural", *more).stages[0].key
        for more in ([], ["test_copies=4"], ["transfer.probe_epochs=1"])
    ]
    assert len(set(sources)) == 1


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["ratio_by=patient"], "ratio_by=patient: it must be one of image, group"),
        (["test_copies=0"], "test_copies=0: "),
        (["recipe.patience=0"], "recipe.patience=0: "),
        (["recipe.balance=up"], "recipe.balance=up: it must be one of none, sampling"),
        (["transfer.probe_epochs=99"], "less than recipe.epochs="),
        (["transfer.probe_epochs=1", "transfer.reinitialise=[]"], "needs blocks"),
        (["transfer.search=[fc6]", "transfer.tune_from=conv1"], "exclude each other"),
        (["transfer.search=[conv2]", "trainer.devices=2"], "transfer.search needs trainer.devices"),
        (["transfer.mode=frozen", "transfer.reinitialise=[]"], "trains nothing"),
    ],
)  # fmt: skip
def test_bad_values_get_one_line(compose_config, overrides, line):
    with pytest.raises(UserError) as caught:
        validate_config(compose_config("+experiment=natural", *overrides))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["transfer.search=[fc8]"], "transfer.search=fc8 would freeze fc7"),
        (["transfer.tune_from=head"], "transfer.tune_from=fc8 would freeze fc7"),
        (["transfer.search=[conv9]"], "transfer.search=conv9: no such block. Use one of conv1,"),
        (["transfer.tune_from=conv9"], "transfer.tune_from=conv9: no such block"),
        (["transfer.reinitialise=[fc9]"], "transfer.reinitialise=fc9: no such block"),
        (["transfer.rates=[[conv9,2],['.*',1]]"], "transfer.rates: 'conv9' matches none"),
        (["model=resnet18", "transfer.tune_from=fc8"], "Use one of stem, layer1, layer2, layer3"),
        (["model=timm", "model.name=resnet1"], "timm has no such network. Did you mean resnet1"),
        (["model=vit_small", "+model.options.embed_dim=7"], "the network cannot be made"),
        (
            ["model=torchvision_zoo", "model.name=vgg11", "model.input_size=20"],
            "model.input_size=20: vgg11 cannot take such images",
        ),
    ],
)  # fmt: skip
def test_blocks_that_the_network_does_not_have_get_one_line(start, tmp_path, overrides, line):
    with pytest.raises(UserError) as caught:
        start(tmp_path, "+experiment=natural", *overrides)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("setting", ["tune_from=conv9", "reinitialise=[fc9]"])
def test_such_a_block_is_refused_in_a_chain_that_transfers_nothing(start, tmp_path, setting):
    with pytest.raises(UserError, match="no such block"):
        start(tmp_path, "+experiment=scratch", f"transfer.{setting}")


def test_copies_of_images_that_have_no_variants_are_refused(start, tmp_path):
    with pytest.raises(UserError, match=r"test_copies=3: domain\.target has no random variants"):
        start(tmp_path, "test_copies=3", "domain.target.mirror=false", "domain.target.turn=false")


def test_averaged_tests_depend_on_the_seed_and_are_recorded(start, tmp_path):
    asked = ["+experiment=scratch", "recipe.epochs=1", "domain.target.augment=false"]
    one = start(tmp_path / "a", *asked).run()
    four = start(tmp_path / "a", *asked, "test_copies=4").run()
    again = start(tmp_path / "b", *asked, "test_copies=4").run()
    tables = [pd.read_csv(run / "predictions.csv") for run in (one, four, again)]
    columns = [name for name in tables[0] if name.startswith("p_")]
    probabilities = [table[columns].to_numpy() for table in tables]
    assert not np.allclose(probabilities[0], probabilities[1], atol=1e-7)
    assert np.array_equal(probabilities[1], probabilities[2])
    np.testing.assert_allclose(probabilities[1].sum(1), 1, atol=1e-12)
    assert [read_json(run / "metrics.json")["test_copies"] for run in (one, four)] == [1, 4]
    # The same training: only the test differs.
    weights = [torch.load(run / "checkpoints" / "best.ckpt", weights_only=True) for run in (one, four)]  # noqa: E501  # fmt: skip
    for name, tensor in weights[0]["state_dict"].items():
        assert torch.equal(tensor, weights[1]["state_dict"][name])
