"""The built wheel, installed into an empty environment: the commands work without a clone."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from conftest import REPOSITORY, SMALL
from stagetransfer.files import read_json

pytestmark = pytest.mark.slow

NOT_COPIED = shutil.ignore_patterns(".*", "outputs", "build", "dist", "*.egg-info", "__pycache__")
NO_ISOLATION = ["--no-build-isolation"] if int(version("setuptools").split(".")[0]) >= 77 else []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy because a build leaves files in the source tree.

    With a recent setuptools in this environment, nothing is downloaded.
    """
    source, folder = tmp_path_factory.mktemp("source") / "copy", tmp_path_factory.mktemp("wheel")
    shutil.copytree(REPOSITORY, source, symlinks=True, ignore=NOT_COPIED)
    call(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", *NO_ISOLATION, "-w", folder, source],
        folder,
    )
    (path,) = folder.glob("stagetransfer-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `bin` folder of an environment with the wheel.

    The dependencies are those of this environment. Python reads no .pth file in a folder that is
    itself named by one, so an editable installation of the project is not visible there.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    own = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", vars=own))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    call([*pip, "install", "--no-deps", "--no-index", wheel], folder)
    # Only now, so that pip does not find this environment's installation of the project.
    dependencies = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(dependencies)) + "\n")
    return folder / "bin"


def call(command, folder):
    """Run a command in a folder, without this session's PYTHONPATH, and return its stdout."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_package_and_of_conf(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    trees = {"": REPOSITORY / "src", "stagetransfer/conf/": REPOSITORY / "conf"}
    expected = {
        prefix + path.relative_to(root).as_posix()
        for prefix, root in trees.items()
        for path in root.rglob("*")
        if path.is_file() and not any(
            part.endswith((".egg-info", "__pycache__")) for part in path.parts
        )
    }  # fmt: skip
    assert expected
    assert expected - found == set()
    assert {name.split("/")[0] for name in found} == {"stagetransfer", "hydra_plugins"}


def test_the_installed_package_is_the_one_in_the_wheel(installed, tmp_path):
    script = "import stagetransfer; print(stagetransfer.__file__)"
    assert Path(call([installed / "python", "-c", script], tmp_path).strip()).is_relative_to(
        installed.parent
    )
    assert version("stagetransfer") in call([installed / "stagetransfer", "--version"], tmp_path)
    helped = call([installed / "python", "-m", "stagetransfer", "--help"], tmp_path)
    assert "train" in helped
    assert "report" in helped


def test_a_run_a_sweep_and_a_report_in_an_empty_folder(installed, tmp_path):
    train = [installed / "stagetransfer", "train"]
    small = [*SMALL, "recipe.epochs=1", "paths.outputs=out"]
    call([*train, "+experiment=two_stage", *small], tmp_path)
    slots = ["hydra/launcher=slots", "hydra.launcher.slots=2"]
    swept = call([*train, "-m", "+experiment=scratch", "ratio=0.5,1.0", *small, *slots], tmp_path)
    assert "2 jobs, all finished" in swept
    runs = [read_json(path) for path in (tmp_path / "out").glob("runs/*/metrics.json")]
    assert sorted((run["condition"], run["ratio"]) for run in runs) == [
        ("scratch", 0.5), ("scratch", 1.0), ("two_stage", 1.0),
    ]  # fmt: skip
    call([installed / "stagetransfer", "report", "out"], tmp_path)
    assert "two_stage" in (tmp_path / "out" / "report" / "report.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
