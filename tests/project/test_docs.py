"""README and docs: every command composes with the project's config, and every path exists."""

import importlib.util
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer

from conftest import REPOSITORY
from stagetransfer.cli.app import app
from stagetransfer.config.validate import validate_config

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]


def shell_commands():
    """Yield the words of each command in the ```bash blocks, with continued lines joined."""
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while "&&" in words:
                    yield words[: words.index("&&")]
                    words = words[words.index("&&") + 1 :]
                yield words


TRAININGS = [
    words[2:]
    for words in shell_commands()
    if words[:2] in (["python", "train.py"], ["stagetransfer", "train"])
]
SUBCOMMANDS = [words[1:] for words in shell_commands() if words[:1] == ["stagetransfer"]]


def test_there_are_commands():
    assert len(TRAININGS) > 30
    assert len(SUBCOMMANDS) > 15


@pytest.mark.parametrize("words", TRAININGS, ids=" ".join)
def test_a_training_composes(compose_config, words):
    # Of a sweep's choices (a,b,c outside brackets) the first represents all; options of Hydra
    # itself are no overrides.
    options = {"-m", "--cfg", "job"}
    overrides = [
        word if "[" in word else re.sub(r",.*", "", word) for word in words if word not in options
    ]
    *_, last = validate_config(compose_config(*overrides)).stages
    assert last.is_target == (last.name == "target")


def choices():
    """Yield the words of each sweep with one later choice in place of the first."""
    for words in TRAININGS:
        for i, word in enumerate(words):
            key, _, values = word.partition("=")
            for value in values.split(",")[1:] if "[" not in word and "-m" in words else ():
                yield [*words[:i], f"{key}={value}", *words[i + 1 :]]


@pytest.mark.parametrize("words", list(choices()), ids=" ".join)
def test_each_choice_of_a_sweep_composes(compose_config, words):
    test_a_training_composes(compose_config, words)


def test_the_extras_and_modules_that_commands_name_exist(monkeypatch):
    # `python -m` looks in the current folder, pytest does not.
    monkeypatch.syspath_prepend(REPOSITORY)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras, modules = set(), set()
    for words in shell_commands():
        if words[:2] == ["pip", "install"]:
            extras.update(re.findall(r"\[(.*)\]", words[-1])[:1])
        elif words[:2] == ["python", "-m"]:
            modules.add(words[2])
    extras = {name for one in extras for name in one.split(",")}
    assert len(extras) > 4
    assert extras <= {*project["optional-dependencies"]}
    assert modules
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize("words", SUBCOMMANDS, ids=" ".join)
def test_a_subcommand_takes_these_arguments(words, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda _: True)  # the folders are examples
    command = typer.main.get_command(app)
    if words[0].startswith("-"):
        assert words[0] in {option for parameter in command.params for option in parameter.opts}
    else:
        # Parses and checks the arguments without running the command.
        command.commands[words[0]].make_context(words[0], words[1:])


def test_ci_runs_the_readmes_test_command():
    command = 'pip install -e ".[test]" && pytest'
    assert command in (REPOSITORY / "README.md").read_text()
    assert 'pip install -e ".\\[test\\]"' in (REPOSITORY / ".ci" / "run").read_text()


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_paths_that_a_page_names_exist(name):
    text = (REPOSITORY / name).read_text()
    paths = re.findall(r"`((?:src|tests|docs|conf)/[\w./-]+)`", text)
    assert len(paths) > 5
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page):
    # The pages under reference/ are generated; `mkdocs build --strict` checks links to them.
    links = re.findall(r"\]\((?!https?:|#|reference/)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_what_the_commands_write_is_ignored_by_git():
    written = [words[words.index("--out") + 1] for words in SUBCOMMANDS if "--out" in words]
    written += ["site", "multirun", "mlruns", "build", "dist", ".venv", "phantom", "outputs/runs"]
    result = subprocess.run(
        ["git", "check-ignore", "--no-index", *(f"{path}/x" for path in written)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    ignored = {line.removesuffix("/x") for line in result.stdout.splitlines()}
    assert set(written) - ignored == set()


def test_no_file_of_the_project_is_ignored_by_git():
    result = subprocess.run(
        ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == ""
