"""Every config composes, and a mistake in one gets one line."""

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conftest import REPOSITORY
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.names import CONDITIONS

CONF = REPOSITORY / "conf"


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "common")


GROUPS = [
    (group, option)
    for group in (
        "model", "recipe", "transfer", "trainer", "paths", "callbacks", "logger",
        "domain/natural", "domain/texture", "domain/target",
    )
    for option in options(group)
]  # fmt: skip


@pytest.mark.parametrize(("group", "option"), GROUPS)
def test_every_option_of_every_group_composes(compose_config, group, option):
    fill = []
    if group.startswith("domain"):
        node = compose_config(f"{group}={option}").domain[group.split("/")[1]]
        required = [key for key in ("root", "weights") if key in list(node.keys())]
        fill = [f"{group.replace('/', '.')}.{key}=/data" for key in required]
    if option in ("timm", "torchvision_zoo"):
        fill = ["model.name=resnet18"]
    two_stage = compose_config("+experiment=two_stage", f"{group}={option}", *fill)
    assert validate_config(two_stage).chain == ("natural", "texture", "target")


@pytest.mark.parametrize("option", options("debug"))
def test_every_debug_option_composes(compose_config, option):
    settings = validate_config(compose_config(f"+debug={option}", "+experiment=two_stage"))
    assert settings.trainer.fast_dev_run is True
    assert all(stage.recipe.epochs == 1 for stage in settings.stages)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes_and_opens_with_its_command(compose_config, experiment):
    fill = ["teacher=[runs/a,runs/b]"] if experiment == "distil" else []
    settings = validate_config(compose_config(f"+experiment={experiment}", *fill))
    assert len(settings.teacher) == 2 * len(fill)
    # A condition has the name of its chain, unless more than the chain distinguishes it.
    assert settings.condition == ("distil" if fill else CONDITIONS[settings.chain])
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    assert f"python train.py +experiment={experiment}" in text


def test_the_four_conditions(compose_config):
    chains = {
        name: validate_config(compose_config(f"+experiment={name}")).chain
        for name in ("scratch", "natural", "texture", "two_stage")
    }
    assert all(compose_config(f"+experiment={name}").condition == name for name in chains)
    assert chains == {name: chain for chain, name in CONDITIONS.items()}


def test_a_domain_of_the_users_own(compose_config):
    settings = validate_config(
        compose_config(
            "+domain/texture@domain.kylberg=folder",
            "domain.kylberg.root=/data/kylberg",
            "chain=[natural,kylberg,target]",
        )
    )
    assert settings.condition == "natural-kylberg-target"
    assert settings.stages[1].domain["root"] == "/data/kylberg"


def test_sources_share_a_seed_and_are_always_tuned_whole(compose_config):
    settings = validate_config(
        compose_config(
            "+experiment=two_stage", "seed=5", "transfer.tune_from=conv4",
            "transfer.reinitialise=[fc6,fc7,fc8]",
        )
    )  # fmt: skip
    natural, texture, target = settings.stages
    assert [stage.seed for stage in settings.stages] == [0, 0, 5]
    assert natural.transfer is None
    assert texture.transfer.tune_from is None
    assert texture.transfer.reinitialise == ["fc6", "fc7", "fc8"]
    assert (target.transfer.tune_from, target.transfer.freezes) == ("conv4", True)


def test_a_source_that_comes_again_starts_from_the_stage_before(compose_config):
    settings = validate_config(compose_config("chain=[natural,texture,natural,target]"))
    assert [stage.transfer is None for stage in settings.stages] == [True, False, False, False]


def test_source_seed_can_follow(compose_config):
    settings = validate_config(
        compose_config("+experiment=natural", "seed=5", "source_seed=${seed}")
    )
    assert [stage.seed for stage in settings.stages] == [5, 5]


def test_one_stage_can_differ(compose_config):
    settings = validate_config(
        compose_config("+experiment=natural", "++stage.natural.recipe.epochs=3", "recipe.epochs=9")
    )
    assert [stage.recipe.epochs for stage in settings.stages] == [3, 9]


def test_a_stage_with_another_scheduler_takes_none_of_its_arguments(compose_config):
    source, target = validate_config(compose_config("+experiment=layerwise")).stages
    assert source.recipe.scheduler == {
        "_target_": "stagetransfer.training.warmup_cosine",
        "_partial_": True,
    }
    assert target.recipe.scheduler is not None
    assert target.recipe.scheduler["gamma"] == 0.95
    # Another class takes none of the arguments of the one before either.
    assert source.recipe.optimizer["_target_"] == "torch.optim.SGD"
    assert source.recipe.optimizer["momentum"] == 0.9
    assert source.recipe.optimizer["lr"] == 0.015


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["chain=[]"], "chain: it must name"),
        (["chain=[natural,bark,target]"], "the stage 'bark' has no domain"),
        (["chain=[target,natural,target]"], "the target 'target' is also a source"),
        (["ratio=0"], "ratio=0.0: a number must be from 0 to 1, without 0"),
        (["ratio=1.2"], "ratio=1.2: "),
        (["seed=-1"], "seed=-1: "),
        (["++stage.natural.recipe.epochs=x"], "stage.natural.recipe.epochs: Value 'x'"),
        (["domain.target.options=3"], "domain.target.options: "),
        (["domain.target.mirror=perhaps"], "domain.target.mirror: Value 'perhaps'"),
        (["trainer.precision=bf16"], "trainer.precision=bf16: "),
        (["trainer.deterministic=never"], "trainer.deterministic=never: "),
        (["recipe.epochs=0"], "recipe.epochs=0: "),
        (["recipe=common"], "recipe.epochs is required: give it as recipe.epochs="),
        (["recipe.monitor=loss"], "recipe.monitor=loss: it must be one of cross_entropy"),
        (["model.variant=vgg"], "model.variant=vgg: it must be one of"),
        (["model.initialisation=zeros"], "model.initialisation=zeros: it must be one of"),
        (["model.mean=[0.5]"], "model.mean: it must be three numbers"),
        (["model=timm"], "model.name is required"),
        (["model.name=resnet18"], "they are of the networks of libraries"),
        (["model=resnet18", "model.initialisation=kaiming"], "it must be one of own, lsuv"),
        (["transfer.search=some"], "give a list of blocks, or all"),
        (["transfer.rate_decay=0.9", "transfer.rates=[[head,1]]"], "exclude each other"),
        (["transfer.mode=partial"], "transfer.mode=partial: it must be one of full, frozen"),
        (["transfer.mode=frozen", "transfer.tune_from=fc7"], "exclude each other"),
        (["transfer.rates=[[fc8]]"], "is not a pair"),
        (["++stage.natural.epochs=3"], "stage.natural.epochs: "),
        (["++stage.natural.recipe.epoch=3"], "stage.natural.recipe.epoch: no such key"),
        (["++stage.bark.recipe.epochs=3"], "stage.bark: no domain has this name"),
        (["domain/texture=curet"], "domain.texture.root is required: give it as"),
        (["condition=a/b"], "names a folder"),
        (["~recipe.optimizer.lr"], "recipe.optimizer.lr is required"),
        (["model=resnet18", "model.variant=bvlc"], "model.variant=bvlc: it is of AlexNet"),
        (["model=resnet18", "model.groups=2"], "model.groups=2: it is of AlexNet"),
        (
            ["++stage.texture.transfer.probe_epochs=1", "trainer.devices=2"],
            "transfer.probe_epochs needs trainer.devices=1",
        ),
    ],
)  # fmt: skip
def test_bad_settings_get_one_line(compose_config, overrides, line):
    with pytest.raises(UserError) as caught:
        validate_config(compose_config("+experiment=two_stage", *overrides))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_domain_that_no_stage_names_needs_no_value(compose_config):
    assert validate_config(compose_config("+experiment=scratch", "domain/texture=curet")).chain == (
        "target",
    )


def test_a_misspelt_option_keeps_hydras_message(compose_config):
    with pytest.raises(ConfigCompositionException, match="epohcs"):
        compose_config("recipe.epohcs=3")


def test_the_resolved_config_can_be_read_again(compose_config):
    # recipe=quick has settings for sources that this chain leaves out.
    settings = validate_config(compose_config("+experiment=texture", "ratio=0.4", "seed=3"))
    again = validate_config(OmegaConf.create(settings.tree))
    assert again == settings


def test_keys_that_the_config_of_an_older_run_lacks_have_their_defaults(compose_config):
    cfg = compose_config("+experiment=two_stage")
    now = validate_config(cfg)
    older = OmegaConf.to_container(cfg)
    for key in ("ratio_by", "test_copies", "callbacks"):
        del older[key]
    older = validate_config(OmegaConf.create(older))
    assert (older.ratio_by, older.test_copies) == (now.ratio_by, now.test_copies) == ("image", 1)
    assert older.callbacks == {}


@pytest.mark.parametrize(
    "override", ["ratio=half", "seed=x", "recipe.epochs=many", "force=perhaps", "model.groups=two"]
)
def test_a_value_of_the_wrong_type_is_refused_when_the_config_is_composed(compose_config, override):
    key, value = override.split("=")
    with pytest.raises((ConfigCompositionException, OmegaConfBaseException), match=value) as caught:
        compose_config(override)
    assert key in str(caught.value)
