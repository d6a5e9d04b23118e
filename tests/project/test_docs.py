"""Every command in the README and the docs composes, as it stands, with the project's config."""

import re
import shlex

import pytest

from conftest import REPOSITORY
from stagetransfer.config.validate import validate_config

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def commands():
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:2] == ["python", "train.py"]:
                    yield words[2:]


COMMANDS = list(commands())


def test_there_are_commands():
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_composes(compose_config, words):
    # Of a sweep's choices (a,b,c outside brackets) the first stands for all.
    overrides = [
        word if "[" in word else re.sub(r",.*", "", word) for word in words if word != "-m"
    ]
    assert validate_config(compose_config(*overrides)).chain[-1] == "target"


def test_ci_runs_the_readmes_test_command():
    command = 'pip install -e ".[test]" && pytest'
    assert command in (REPOSITORY / "README.md").read_text()
    assert 'pip install -e ".\\[test\\]"' in (REPOSITORY / ".ci" / "run").read_text()
