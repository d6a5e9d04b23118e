"""The generated configuration reference names every key and every option."""

import importlib
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from conftest import REPOSITORY


@pytest.fixture
def reference(monkeypatch):
    """Import the module that the documentation site imports from docs/hooks."""
    monkeypatch.syspath_prepend(REPOSITORY / "docs/hooks")
    return importlib.import_module("config_reference")


def flat(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_key_of_the_default_config_is_there(reference, compose_config):
    tree = OmegaConf.to_container(compose_config())
    tree.pop("stage")  # what differs for one stage: the keys of the recipe again
    keys = {re.sub(r"^domain\.\w+\.", "domain.<name>.", key) for key in flat(tree)}
    # Keys that only some files of a group have are shown in the text of these files.
    keys -= {"domain.<name>._target_", "domain.<name>._partial_", "recipe.optimizer.momentum"}
    keys = {key for key in keys if not key.startswith(("recipe.scheduler.", "callbacks"))}
    page = reference.page()
    assert len(keys) > 50
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def test_every_option_is_there_with_a_description(reference):
    page = reference.page()
    options = [
        path.relative_to(REPOSITORY / "conf").with_suffix("")
        for path in (REPOSITORY / "conf").rglob("*.yaml")
        if path.stem not in ("config", "common") and path.parent.name != "paths"
    ]
    assert len(options) > 30
    for option in [*options, Path("hydra/launcher/slots")]:
        group, name = option.parent.as_posix(), option.name
        if group in reference.INTERNAL:
            continue
        assert re.search(rf"\| `\+?{group}={name}` \| [^| ].*\|", page), f"{group}={name}"


def test_a_type_comes_from_the_schema(reference):
    assert "| `model.dropout` | number | `0.5` |" in reference.page()


def test_comments_are_read_beside_below_and_above_a_key(reference):
    text = (
        "# The file.\n"
        "a: 1     # beside,\n"
        "         # continued\n"
        "# above\n"
        "b: [x, '#']\n"
        "c:       # of a mapping\n"
        "  d: ???\n"
        "e: null\n"
    )
    found = [(key.name, key.default, key.comment) for key in reference.keys(text)]
    assert found == [
        ("a", "1", "beside, continued"),
        ("b", "[x, '#']", "above"),
        ("c", "", "of a mapping"),
        ("c.d", "???", ""),
        ("e", "null", ""),
    ]
