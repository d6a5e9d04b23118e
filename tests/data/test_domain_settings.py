"""Settings of a domain: typed, checked before anything is read, with a role for each field."""

from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image

from conftest import REPOSITORY
from stagetransfer.config.schema import Stage
from stagetransfer.config.validate import validate_config
from stagetransfer.data import (
    DomainDataModule,
    DomainSettings,
    Samples,
    StageSettings,
    TargetDataModule,
)
from stagetransfer.errors import UserError
from stagetransfer.pipeline.stage_data import stage_data


def four_images(**options: object) -> Samples:
    if options.pop("broken", False):
        raise TypeError("an error inside the reader")
    labels = np.arange(8) % 2
    return Samples(np.zeros((8, 8, 8), np.uint8), tuple("abcdefgh"), labels, ("a", "b"))


class OwnDataModule(DomainDataModule):
    """A user's domain with a keyword of its own, as older subclasses were written."""

    generator = staticmethod(four_images)

    def __init__(self, *, colour: str, **settings: object) -> None:
        super().__init__(**settings)
        self.colour = colour


def settings(**values):
    return DomainSettings.from_config({"layout": "embedded", **values}, "domain.t")


def test_the_fields_are_the_keys_of_the_config():
    text = (REPOSITORY / "conf" / "domain" / "common.yaml").read_text()
    keys = {line.split(":")[0] for line in text.splitlines() if line[:1].isalpha()}
    assert {one.name for one in fields(DomainSettings)} == keys | {"root"}
    assert {one.metadata["role"] for one in fields(DomainSettings)} == {"decides", "idle"}


def test_yes_and_no_are_booleans():
    assert settings(mirror="no").mirror is False
    assert settings(turn="yes").turn is True


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"mirror": "maybe"}, "domain.t.mirror: Value 'maybe'"),
        ({"crop": "x"}, "domain.t.crop: Value 'x'"),
        ({"colour": 1}, "domain.t.colour: no such key"),
    ],
)
def test_wrong_types_and_unknown_keys_get_one_line(values, line):
    with pytest.raises(UserError) as caught:
        settings(**values)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_options_without_effect_do_not_decide():
    def deciding(**values):
        return settings(**values).deciding(is_target=True)

    off = deciding(mirror=False, turn=False)
    assert deciding(augment=False, mirror=True, turn=True) == off
    assert deciding(workers=3, index=False, memory_limit_gib=1, root="/data") == deciding()
    assert deciding(augment=False, crop=0.1) != deciding(crop=0.1)
    source = settings(test_share=0.5).deciding(is_target=False)
    assert source == settings().deciding(is_target=False)


def test_the_constructor_reads_nothing():
    data = DomainDataModule(StageSettings("t"), layout="folder", root="/nowhere")
    with pytest.raises(UserError, match="/nowhere: no such folder"):
        data.read()


@pytest.mark.parametrize(
    ("layout", "name", "value", "kind"),
    [
        ("embedded", "scale", "abc", "a number"),
        ("embedded", "size", 32.5, "a whole number"),
        ("embedded", "seed", True, "a whole number"),
        ("embedded", "scale", None, "a number"),
        ("curet", "partial", "maybe", "true or false"),
        ("dtd", "max_classes", "x", "a whole number or null"),
        ("csv", "table", 3, "a text"),
        ("dld", "groups", ["p"], "a text or null"),
    ],
)
def test_an_option_of_the_wrong_type_is_one_line_before_anything_is_read(layout, name, value, kind):
    with pytest.raises(UserError) as caught:
        TargetDataModule(
            StageSettings("target"), layout=layout, root="/nowhere", options={name: value}
        )
    expected = f"domain.target.options.{name}={value}: must be {kind}. Give another value."
    assert str(caught.value) == expected


def test_options_of_a_fitting_or_unknown_type_are_left_to_the_reader():
    fitting = {"scale": 1, "size": 20, "seed": 0}
    TargetDataModule(StageSettings("t"), layout="embedded", options=fitting)
    classes = {"classes": "ab", "max_classes": None}
    data = DomainDataModule(StageSettings("t"), layout="folder", root=REPOSITORY, options=classes)
    with pytest.raises(UserError, match="must be a list of names"):
        data.read()


def test_only_the_effect_of_layout_and_options_is_hashed(tmp_path):
    def identity(layout="csv", **options):
        stage = StageSettings("t")
        own = {"validation_share": 0.4, "test_share": 0.4, "split_by": "image"}
        data = DomainDataModule(stage, layout=layout, root=tmp_path, options=options, **own)
        return data.read().identity()

    names = [f"{label}/{i}.png" for label in ("a", "b", "c") for i in range(6)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    table = tmp_path / "labels.csv"
    table.write_text("file,label\n" + "".join(f"{name},{name[0]}\n" for name in names))
    plain = identity()
    assert identity(table=str(table)) == plain
    assert identity("folder") == plain
    assert identity(classes=["b", "a", "c"])["fingerprint"] != plain["fingerprint"]
    assert identity(max_classes=2)["fingerprint"] != plain["fingerprint"]
    assert identity(max_per_class=5)["fingerprint"] != plain["fingerprint"]
    assert identity("folder", groups=r"(\d)\.png")["fingerprint"] != plain["fingerprint"]


def test_options_of_a_users_own_reader_of_files_are_hashed(tmp_path):
    def files(folder: str) -> Samples:
        names = tuple("abcdefghijkl")
        labels = np.arange(12) % 2
        return Samples([tmp_path / folder / name for name in names], names, labels, ("x", "y"))

    class OfFiles(DomainDataModule):
        generator = staticmethod(files)

    def identity(folder):
        (tmp_path / folder).mkdir()
        for name in "abcdefghijkl":
            Image.new("L", (4, 4)).save(tmp_path / folder / name, "PNG")
        options = {"options": {"folder": folder}}
        return OfFiles(StageSettings("t"), layout="embedded", **options).read().identity()

    one, other = identity("one"), identity("other")
    assert one["fingerprint"] == other["fingerprint"]
    assert one != other


@pytest.fixture
def build(compose_config):
    config = validate_config(compose_config("+experiment=scratch"))
    target = {"_target_": f"{__name__}.OwnDataModule", "layout": "embedded", "split_by": "image"}

    def built(**keywords: object) -> object:
        stage: Stage = replace(config.stages[-1], domain={**target, **keywords})
        return stage_data(replace(config, stages=(stage,)), stage)

    return built


def test_a_subclass_of_the_user_gets_its_own_keywords(build):
    data = build(colour="red", crop=0.1)
    assert (data.colour, data.settings.crop, data.stage.name) == ("red", 0.1, "target")
    assert data.count("test") == 2


def test_a_missing_keyword_of_the_user_is_one_line(build):
    with pytest.raises(UserError, match=r"^domain\.target: .*OwnDataModule.*colour"):
        build()


def test_a_type_error_inside_a_reader_is_not_hidden(build):
    with pytest.raises(TypeError, match="an error inside the reader"):
        build(colour="red", options={"broken": True})
