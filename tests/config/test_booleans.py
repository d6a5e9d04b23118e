"""Words for true and false mean the same in every setting that is a boolean."""

import dataclasses
import inspect
from typing import get_args, get_type_hints

import pytest
import torch
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stagetransfer.config.domain_settings import DomainSettings
from stagetransfer.config.instantiate import partial_of
from stagetransfer.config.schema import Config
from stagetransfer.config.validate import validate_config
from stagetransfer.data import StageSettings, TextureDataModule
from stagetransfer.errors import UserError
from stagetransfer.layouts import LAYOUTS
from stagetransfer.synthetic import GENERATORS


def booleans(schema, place):
    for name, kind in get_type_hints(schema).items():
        if dataclasses.is_dataclass(kind):
            yield from booleans(kind, f"{place}{name}.")
        elif bool in (kind, *get_args(kind)):
            yield place + name


KEYS = [
    *booleans(Config, ""),
    *booleans(DomainSettings, "domain.target."),
    *("trainer.deterministic", "trainer.fast_dev_run"),  # other values are legal too
    *("stage.target.recipe.bias_decay", "stage.target.require_learning"),
]
WORDS = {"no": False, "off": False, "False": False, "yes": True, "on": True, "TRUE": True}


def test_no_key_is_left_out():
    text = {"force", "recipe.bias_decay", "trainer.winograd", "domain.target.mirror"}
    assert text < {*KEYS}
    assert len(KEYS) == len({*KEYS})


@pytest.mark.parametrize(("word", "value"), WORDS.items())
def test_each_word_is_a_boolean_in_every_key(compose_config, word, value):
    asked = [f"{'++' if key.startswith('stage') else ''}{key}={word}" for key in KEYS]
    config = validate_config(compose_config("+experiment=scratch", *asked))
    (stage,) = config.stages
    found = {
        "stage.target.recipe.bias_decay": stage.recipe.bias_decay,
        "stage.target.require_learning": stage.require_learning,
    }
    tree = OmegaConf.create(config.tree)  # what is written beside the run and compared
    found |= {key: OmegaConf.select(tree, key) for key in KEYS if key not in found}
    assert found == dict.fromkeys(KEYS, value)
    assert (config.force, config.trainer.fast_dev_run) == (value, value)
    assert (config.trainer.deterministic, stage.domain["mirror"]) == (value, value)


@pytest.mark.parametrize("key", KEYS)
def test_any_other_word_is_refused(compose_config, key):
    prefix = "++" if key.startswith("stage") else ""
    with pytest.raises((UserError, HydraException, OmegaConfBaseException)) as caught:
        validate_config(compose_config("+experiment=scratch", f"{prefix}{key}=perhaps"))
    assert key.split(".")[-1] in f"{caught.value} {caught.value.__cause__}"


def test_the_number_of_batches_stays_a_number(compose_config):
    config = validate_config(compose_config("trainer.fast_dev_run=3"))
    assert config.trainer.fast_dev_run == 3
    with pytest.raises(UserError):
        validate_config(compose_config("trainer.fast_dev_run=-1"))


def test_options_of_all_readers(tmp_path):
    functions = [*LAYOUTS.values(), *GENERATORS.values()]
    found = [
        name
        for function in functions
        for name, one in inspect.signature(function).parameters.items()
        if one.annotation is bool or isinstance(one.default, bool)
    ]
    assert found == ["partial", "keep"]

    def option(layout, name, word):
        own = {"layout": layout, "root": tmp_path, "options": {name: word}}
        return TextureDataModule(StageSettings("t"), **own).settings.options[name]

    for layout, name in (("curet", "partial"), ("litdata", "keep")):
        assert {word: option(layout, name, word) for word in WORDS} == WORDS
        with pytest.raises(UserError):
            option(layout, name, "perhaps")


class Own:
    """A user's class; the hint of `either` allows texts, and `untyped` has only a default."""

    def __init__(self, flag: "bool | None" = None, either: "bool | str" = True, untyped=False):
        self.values = flag, either, untyped


def test_keywords_of_any_class():
    def made(**keywords):
        return partial_of({"_target_": f"{__name__}.Own", **keywords}, "callbacks.own")().values

    assert made(flag="no", either="no", untyped="off") == (False, "no", False)
    assert made(flag=None, untyped="yes") == (None, True, True)
    for name in ("flag", "untyped"):
        with pytest.raises(UserError):
            made(**{name: "perhaps"})
    sgd = {"_target_": "torch.optim.SGD", "lr": 0.1, "nesterov": "no", "fused": "off"}
    optimizer = partial_of(sgd, "recipe.optimizer")([torch.zeros(1, requires_grad=True)])
    assert (optimizer.defaults["nesterov"], optimizer.defaults["fused"]) == (False, False)
