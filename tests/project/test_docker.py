"""The Docker image gets every file that the installation of the project needs."""

import re

from conftest import REPOSITORY

NEEDED = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "train.py", "conf", "src")


def test_the_image_gets_what_the_installation_needs():
    text = (REPOSITORY / "docker/Dockerfile").read_text()
    copied = {
        source for line in re.findall(r"^COPY (.*)", text, re.M) for source in line.split()[:-1]
    }
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    passed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    needed = {name for name in NEEDED if (REPOSITORY / name).exists()}
    assert needed - copied == set()
    assert copied - passed == set()
