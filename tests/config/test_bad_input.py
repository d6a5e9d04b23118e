"""What a user can get wrong in the data: one line each, before anything is trained or written."""

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import SMALL
from stagetransfer.cli.train import refuse_odd_numbers
from stagetransfer.config.compose import check_sweep, compose_settings
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.models import InputSpec, alexnet_backbone
from stagetransfer.pipeline.chain import ChainRunner


@pytest.fixture
def refused(compose_config, tmp_path):
    """The one line with which a config is refused; asserts that nothing was written."""

    def line(*overrides):
        outputs = tmp_path / "outputs"
        fixed = ("model.input_size=67", f"paths.outputs={outputs}")
        with pytest.raises(UserError) as caught:
            ChainRunner(validate_config(compose_config(*fixed, *overrides)))
        assert not outputs.exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return line


@pytest.fixture
def table(tmp_path):
    """Writes a table of patches and gives the overrides that name it."""

    def make(*lines):
        for i in range(12):
            Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / f"{i}.png")
        (tmp_path / "labels.csv").write_text("\n".join(lines))
        return ("domain/target=csv", f"domain.target.root={tmp_path}")

    return make


def test_a_missing_folder(refused):
    line = refused("domain/target=folder", "domain.target.root=/nowhere/patches")
    assert line.startswith("/nowhere/patches: no such folder")


def test_an_empty_class(refused, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for i in range(4):
        for name in ("a", "b"):
            Image.new("L", (8, 8)).save(tmp_path / "set" / name / f"{i}.png")
    line = refused("domain/target=folder", f"domain.target.root={tmp_path / 'set'}")
    assert "class c has no image" in line


def test_a_file_that_is_no_image(refused, table, tmp_path):
    overrides = table("file,label", *(f"{i}.png,{'ab'[i % 2]}" for i in range(12)))
    (tmp_path / "3.png").write_text("text")
    assert "3.png: not an image" in refused(*overrides)


def test_an_unknown_class_in_the_table(refused, table):
    table("file,label", "0.png,CON", "1.png,CAT")
    root = table("file,label", "0.png,CON", "1.png,CAT")[1]
    assert "line 3: unknown class 'CAT'" in refused("domain/target=dld", root)


def test_a_patient_on_both_sides(refused, table):
    overrides = table(
        "file,label,patient,split",
        *(f"{i}.png,{'ab'[i % 2]},p{i % 4},{'train' if i < 6 else 'test'}" for i in range(12)),
    )
    assert "'p2' is in test and in train" in refused(*overrides)


def test_too_few_patients_for_a_cut_by_group(refused, table):
    overrides = table("file,label,patient", *(f"{i}.png,{'ab'[i % 2]},p{i % 2}" for i in range(12)))
    line = refused(*overrides)
    assert "class a has 1 group" in line
    assert "domain.target.split_by=image" in line


def test_a_ratio_that_leaves_a_class_empty(refused):
    line = refused("+domain.target.options.scale=0.2", "ratio=0.001")
    assert line.startswith("ratio=0.001 leaves class RET no image of its")


def test_a_required_value_not_given(refused):
    line = refused("domain/texture=curet", "+experiment=texture")
    assert line == "domain.texture.root is required: give it as domain.texture.root=..."
    assert refused("+experiment=distil").startswith("teacher is required")
    assert refused("teacher=[[1]]").startswith("teacher=")


def test_weights_of_another_shape(refused, tmp_path):
    weights = tmp_path / "weights.pt"
    torch.save({"conv1.weight": torch.zeros(64, 3, 11, 11)}, weights)
    line = refused("+experiment=natural", "domain/natural=pretrained",
                   f"domain.natural.weights={weights}")  # fmt: skip
    assert "conv1.weight" in line


def test_weights_that_are_no_weights(refused, tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_text("nothing")
    assert "weights.pt" in refused("+experiment=natural", "domain/natural=pretrained",
                                   f"domain.natural.weights={weights}")  # fmt: skip


def test_weights_in_the_middle_of_a_chain(refused, tmp_path):
    (tmp_path / "w.pt").touch()
    line = refused("+experiment=two_stage", "domain/texture=pretrained",
                   f"domain.texture.weights={tmp_path / 'w.pt'}")  # fmt: skip
    assert "domain.texture.weights: weights can only replace the first stage" in line


def test_an_input_too_small_for_the_network(refused):
    assert "input_size" in refused("model.input_size=20")


def test_an_optimiser_that_takes_no_such_setting(refused):
    line = refused("recipe.optimizer._target_=torch.optim.AdamW")
    assert "momentum" in line
    assert "~recipe.optimizer" in line


def test_an_optimiser_that_does_not_exist(refused):
    line = refused("recipe.optimizer._target_=torch.optim.SDG")
    assert line.startswith("recipe.optimizer: ")


@pytest.mark.parametrize("group", ["optimizer", "scheduler"])
def test_a_recipe_without_a_class(refused, group):
    line = refused(f"~recipe.{group}._target_", f"+recipe.{group}.verbose=1")
    assert line.startswith(f"recipe.{group}._target_ is required")


def test_a_number_out_of_range_that_may_be_null(refused):
    assert refused("recipe.gradient_clip_norm=0").endswith(", or null.")


def test_rates_that_leave_a_layer_out(refused):
    line = refused("+experiment=texture", "transfer.rates=[[fc8,10]]", *SMALL[4:6])
    assert "transfer.rates: no entry matches conv1" in line


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("trainer.limit_test_batches=1", "trainer.limit_test_batches"),
        ("domain.target.confounder_kind=noise", "domain.target.confounder_kind"),
        ("domain.target.confounder_class=CON", "domain.target.confounder_class"),
        ("domain.target.confounder_test=absent", "domain.target.confounder_test"),
        ("+stage.target=5", "stage.target"),
        ("+stage.target=[1]", "stage.target"),
        ("+stage.target.recipe=5", "stage.target.recipe"),
        ("+stage.target.transfer=abc", "stage.target.transfer"),
        ("domain.target=5", "domain.target"),
        ("domain.target=null", "domain.target"),
    ],
)
def test_settings_that_would_be_ignored_or_of_another_kind(refused, word, key):
    assert refused("chain=[target]", word).startswith(key)


LR, BASE = "torch.optim.lr_scheduler", "recipe.scheduler._target_"


@pytest.mark.parametrize(
    ("words", "start"),
    [
        ([f"{BASE}={LR}.ReduceLROnPlateau"], "recipe.scheduler: "),
        ([f"{BASE}={LR}.OneCycleLR", "++recipe.scheduler.max_lr=0.1", "recipe.bias_rate=2"],
         "recipe.scheduler: "),
        (["recipe.optimizer._target_=torch.optim.LBFGS", "~recipe.optimizer.momentum",
          "~recipe.optimizer.fused", "~recipe.optimizer.weight_decay"], "recipe.optimizer: "),
        (["trainer.strategy=ddp_spawn"], "trainer.strategy=ddp_spawn: "),
        (["trainer.strategy=fsdp"], "trainer.strategy=fsdp: "),
        (["model=efficientnet_lite0", "model.input_size=64", "trainer.sync_batchnorm=true"],
         "trainer.sync_batchnorm=true: "),
        (["chain=[texture,target]", "transfer.reinitialise=[fc7]"], "transfer.reinitialise: "),
    ],
)  # fmt: skip
def test_what_would_fail_or_be_lost_in_the_middle_of_a_run(refused, words, start):
    assert refused("chain=[target]", *SMALL, *words).startswith(start)


def test_a_last_batch_of_one_image(refused, start, tmp_path):
    """ResNet normalises one value per channel at this size, which one image does not have."""
    words = ("chain=[target]", "model=resnet18", "model.input_size=64")
    images = start(tmp_path / "larger", *words).stages[-1].data.count("train")
    words += (f"recipe.batch_size={images - 1}",)
    start(tmp_path / "larger", *words)
    words = (*SMALL, *words, "model.input_size=32")
    assert refused(*words).startswith("stage target: the last batch")


def test_a_cycle_of_rates_is_taken_where_all_blocks_share_one(compose_config, tmp_path):
    words = (f"{BASE}={LR}.OneCycleLR", "++recipe.scheduler.max_lr=0.1", "chain=[target]")
    config = validate_config(compose_config(*SMALL, f"paths.outputs={tmp_path}", *words))
    ChainRunner(config)


def test_a_classifier_that_fits_its_published_weights_may_be_kept(compose_config, tmp_path):
    network = alexnet_backbone(7, input=InputSpec(67))
    torch.save(network.state(), tmp_path / "seven.pt")
    words = ("domain/natural=pretrained", f"domain.natural.weights={tmp_path / 'seven.pt'}")
    words += ("chain=[natural,target]", "transfer.reinitialise=[]", f"paths.outputs={tmp_path}")
    small = [word for word in SMALL if not word.startswith("+domain.natural")]
    ChainRunner(validate_config(compose_config(*small, *words)))


@pytest.mark.parametrize(
    "root", ["/data/Müller", "/data/set (1)", "/data/a=b", "~/x", "a&b", "a[b]"]
)
def test_a_path_that_needs_quotes_is_named_with_its_key(root):
    word = f"domain.target.root={root}"
    with pytest.raises(UserError) as caught:
        compose_settings(["domain/target=folder", word])
    assert str(caught.value).startswith(word)
    assert f"\"domain.target.root='{root}'\"" in str(caught.value)


@pytest.mark.parametrize("word", ["logger=null", "model=5", "domain=5"])
def test_a_group_that_is_no_name_is_one_line(word):
    with pytest.raises(UserError, match="Config group override"):
        compose_settings([word])


@pytest.mark.parametrize("word", ["paths.outputs=2024_01_15", "seed=1,1_0", "condition=+2_4"])
def test_digits_with_underscores_are_no_silent_number(word):
    with pytest.raises(UserError) as caught:
        refuse_odd_numbers(["ratio=0.2,1.0", "domain.target.root=set_1_2", word])
    assert str(caught.value).startswith(word)


@pytest.mark.parametrize("plus", ["", "+"])
@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("trainer.gradient_clip_val=1", "recipe.gradient_clip_norm"),
        ("trainer.max_epochs=3", "recipe.epochs"),
    ],
)
def test_arguments_of_lightning_that_have_another_name_here(plus, word, key):
    with pytest.raises(UserError, match=rf"{word.split('=')[0]}: .*Use {key}"):
        compose_settings([plus + word])


def test_an_impossible_value_of_a_sweep_is_found_before_its_first_job():
    good = [
        "+experiment=scratch,two_stage",
        "ratio=0.2,1.0",
        "seed=range(3)",
        "hydra/launcher=slots",
    ]
    check_sweep(["-m", *good, "hydra/launcher=slots"])
    with pytest.raises(UserError, match=r"ratio=2, in this sweep: ratio=2\.0"):
        check_sweep(["-m", "+experiment=scratch", "ratio=0.5,2"])
    with pytest.raises(UserError, match=r"ratio=2\.0"):  # the first value, which all jobs share
        check_sweep(["-m", "+experiment=scratch", "ratio=2,0.5"])
    with pytest.raises(UserError, match="recipe=modernn"):
        check_sweep(["-m", "recipe=quick,modernn", "seed=0,1"])
    check_sweep(["-m", "domain/target=folder", "ratio=0.5,2"])  # incomplete without its sweeper
