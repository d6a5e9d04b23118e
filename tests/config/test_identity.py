"""Which settings decide a result: declared once, in the schema."""

import dataclasses
import inspect

import pytest
import pytorch_lightning as pl

from stagetransfer.config import schema
from stagetransfer.config.domain_settings import DomainSettings
from stagetransfer.config.identity import deciding, key_of, role_of, stage_identity
from stagetransfer.config.validate import validate_config

SECTIONS = (
    schema.Config, schema.Model, schema.Recipe, schema.Transfer, schema.Trainer, DomainSettings,
    schema.Paths,
)  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS, ids=lambda one: one.__name__)
def test_every_field_of_the_schema_declares_its_role(section):
    for field in dataclasses.fields(section):
        assert field.metadata.get("role") in ("decides", "place", "idle"), field.name


def test_no_section_of_the_schema_is_left_out():
    found = {
        value
        for value in vars(schema).values()
        if dataclasses.is_dataclass(value) and value.__module__ == schema.__name__
    }
    # TopLevel is the base of Config; the last two hold checked settings, not keys.
    assert found | {DomainSettings} == {*SECTIONS, schema.TopLevel, schema.Stage, schema.RunConfig}


@pytest.mark.parametrize(
    ("key", "role"),
    [
        ("ratio", "place"),
        ("seed", "place"),
        ("source_seed", "place"),
        ("chain", "decides"),
        ("force", "idle"),
        ("paths.outputs", "idle"),
        ("hydra.sweep.dir", "idle"),
        ("logger.csv.save_dir", "idle"),
        ("callbacks.feature_images.every_n_epochs", "idle"),
        ("callbacks.mine._target_", "decides"),
        ("recipe.optimizer.lr", "decides"),
        ("stage.natural.recipe.epochs", "decides"),
        ("stage.target.transfer.tune_from", "decides"),
        ("trainer.accelerator", "idle"),
        ("trainer.devices", "decides"),
        ("trainer.precision", "decides"),
        ("trainer.max_steps", "decides"),
        ("stage.natural.require_learning", "idle"),
        ("trainer.profiler", "idle"),
        ("trainer.winograd", "decides"),
        ("trainer.channels_last", "decides"),
        ("trainer.deterministic", "decides"),
        ("trainer.frozen_features_gib", "decides"),
        ("domain.target.root", "idle"),
        ("domain.kylberg.workers", "idle"),
        ("domain.target.options.max_classes", "decides"),
        ("domain.target.a_key_of_the_users_own_class", "decides"),
    ],
)
def test_roles(key, role):
    assert role_of(key) == role


def test_only_what_decides_is_hashed():
    one, other = schema.Trainer(), schema.Trainer(accelerator="cpu", keep_memory=False)
    assert deciding(one) == deciding(other)
    assert deciding(one) != deciding(schema.Trainer(max_steps=5))


def test_the_dropout_of_alexnet_is_no_setting_of_other_networks(compose_config):
    def key(*words):
        config = validate_config(compose_config("+experiment=scratch", *words))
        return key_of(stage_identity(config, config.stages[-1], {}))

    assert key("model=resnet18") == key("model=resnet18", "model.dropout=0.4")
    assert key("model=resnet18") != key("model=resnet18", "+model.options.zero_init_residual=true")
    assert key() != key("model.dropout=0.4")


# What every run sets itself, or what a run of one node cannot use.
RESERVED = {
    "barebones", "callbacks", "default_root_dir", "enable_autolog_hparams", "enable_checkpointing",
    "enable_progress_bar", "gradient_clip_algorithm", "gradient_clip_val", "limit_predict_batches",
    "logger", "max_epochs", "model_registry", "num_nodes", "plugins", "use_distributed_sampler",
}  # fmt: skip


def test_trainer_takes_every_argument_of_lightnings_trainer():
    names = set(inspect.signature(pl.Trainer).parameters)
    ours = {field.name for field in dataclasses.fields(schema.Trainer)}
    assert names - ours <= RESERVED
    assert not RESERVED & ours
