"""The commands of the README after training, and the Python of all pages, run on small runs."""

import glob
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

import numpy as np
import pytest

from conftest import ONE_THREAD, REPOSITORY, SMALL
from ct.ct_series import series

pytestmark = pytest.mark.slow

TRAIN = [sys.executable, str(REPOSITORY / "train.py")]
TOOL = [sys.executable, "-m", "stagetransfer"]
SMALLER = {
    "advise": ["model.input_size=67", "+domain.target.options.scale=0.3"],  # as the runs
    "visualize": ["--images", "4"],
}
# Enough images and epochs for the targets to learn: only then there is something to compare.
WHOLE = [word for word in SMALL if "target.options.scale" not in word]
FIRST = ["-m", "+experiment=scratch,natural,two_stage", "seed=0", *WHOLE]
FIRST += ["+domain.target.options.scale=0.3", "recipe.epochs=8", "paths.outputs=outputs"]
FOLDS = ["-m", "+experiment=scratch", "domain.target.fold=0,1,2,3,4", *WHOLE, "ratio=0.1"]
FOLDS += ["domain.target.split_file=folds.csv", "recipe.epochs=1", "paths.outputs=outputs"]


def blocks(page, language):
    text = (REPOSITORY / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def call(words, folder):
    """Run a command in a folder, with the names that a pattern stands for."""
    found = [sorted(glob.glob(word, root_dir=folder)) or [word] for word in words]
    words = [one for of_word in found for one in of_word]
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=1800,
        env=ONE_THREAD | {"PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"},
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stdout[-1000:], done.stderr[-1000:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with small runs, and with the CT series and the annotations of docs/extract.md."""
    folder = tmp_path_factory.mktemp("reader")
    call([*TRAIN, *FIRST], folder)
    series(folder / "scans", spacing=("0.5", "0.5"))
    (table,) = blocks("docs/extract.md", "csv")
    (folder / "rois.csv").write_text(table)
    return folder


def subcommands():
    lines = "\n".join(blocks("README.md", "bash")).replace("\\\n", " ").splitlines()
    commands = (shlex.split(line, comments=True) for line in lines)
    return [
        words[1 : [*words, "&&"].index("&&")]
        for words in commands
        if words[:1] == ["stagetransfer"]
    ]


def served(words, folder):
    """Return the first page that a command serves until it is stopped."""
    with subprocess.Popen([*TOOL, *words], cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        address = server.stdout.readline().split()[1]
        page = build_opener(HTTPCookieProcessor()).open(address).read().decode()
        server.terminate()
    return page.lower()


def test_the_subcommands_of_the_readme_run_in_their_order(folder):
    for words in subcommands():
        if words[0] == "serve":
            assert "conditions" in served(words, folder)
            continue
        if "data_set=embedded-folds" in words:
            call([*TRAIN, *FOLDS], folder)
        call([*TOOL, *words, *SMALLER.get(words[0], [])], folder)
    for name in ("report/report.html", "advise/report.html", "visualization/embedded/summary.md"):
        assert (folder / "outputs" / name).is_file()
    assert (folder / "patches" / "labels.csv").is_file()


def test_the_tutorial_runs_from_top_to_bottom(tmp_path):
    small = [word for word in WHOLE if "domain.target" not in word] + ["recipe.epochs=1"]
    lines = "\n".join(blocks("docs/tutorial.md", "bash")).replace("\\\n", " ").splitlines()
    for words in filter(None, map(shlex.split, lines)):
        if words[:2] == ["stagetransfer", "visualize"]:
            continue  # as in the README
        if words[:2] == ["python", "train.py"]:
            words = [*TRAIN, *(w.replace("seed=0,1,2", "seed=0") for w in words[2:]), *small]
        else:
            words = [*TOOL, *words[1:], *SMALLER.get(words[1], [])]
        call(words, tmp_path)
    assert (tmp_path / "my_outputs" / "report" / "report.html").is_file()
    assert (tmp_path / "my_predictions" / "patches.csv").is_file()


PYTHON = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
    if page.name != "extract.md"  # `tests/ct/test_ct_conversions.py`
    for number, block in enumerate(blocks(page, "python"))
]


@pytest.mark.parametrize("block", PYTHON)
def test_the_python_of_a_page_runs(block, folder, monkeypatch, compose_config):
    import torch

    import stagetransfer as st
    from stagetransfer.config.validate import validate_config
    from stagetransfer.models import build_backbone

    monkeypatch.chdir(folder)
    exported = sorted(Path("outputs/export").glob("two_stage-r1-*/model.onnx"))
    if exported and not Path("model.onnx").exists():
        Path("model.onnx").symlink_to(exported[0])
    real = st.train
    small = [*SMALL, "recipe.epochs=1"]
    monkeypatch.setattr(st, "train", lambda name, words=(): real(name, [*small, *words]))
    model = ["model=resnet18"] if "layer4" in block else SMALL[:1]
    config = validate_config(compose_config(*model))
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    images = torch.zeros(2, 3, config.model.input_size, config.model.input_size)
    exec(compile(block, "block", "exec"), {
        "images": images.numpy() if "onnx" in block else images,
        "network": build_backbone(config.model, 7).eval(),
        "labels": labels,
        "scores": labels + random.normal(size=40),
        "patients": [f"p{i}" for i in range(40)],
    })  # fmt: skip
