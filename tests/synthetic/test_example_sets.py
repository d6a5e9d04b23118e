"""The four example sets: read and trained on as documented, with ROC and FROC curves."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from conftest import REPOSITORY
from stagetransfer.cli.app import app
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.stage_data import stage_data
from stagetransfer.synthetic.example_tasks import TASKS, write_example

CLASSES = {
    "polyp": ("background", "polyp"),
    "frames": ("informative", "poor"),
    "embolism": ("other", "embolus"),
    "boundary": ("lumen_intima", "media_adventitia", "tissue"),
}


def call(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with all four sets."""
    root = tmp_path_factory.mktemp("examples")
    for name in TASKS:
        write_example(name, root / name)
    return root


def settings(compose_config, root, name, *more):
    words = [word.format(root=root / name) for word in TASKS[name].overrides]
    return validate_config(compose_config(*words, *more))


@pytest.mark.parametrize("name", list(TASKS))
def test_each_set_is_read_and_no_group_is_in_two_splits(compose_config, root, name):
    of = settings(compose_config, root, name)
    data = stage_data(of, of.stages[-1])
    assert data.classes == CLASSES[name]
    splits = data.rows
    groups = {split: {data.samples.groups[row] for row in rows} for split, rows in splits.items()}
    assert len(set.union(*groups.values())) == sum(map(len, groups.values())) == 16
    for split in splits:
        assert min(data.count_by_class(split).values()) >= 4
    if name in ("embolism", "boundary"):  # an official split
        assert {int(group[1:]) for group in groups["test"]} == set(range(11, 16))


@pytest.mark.parametrize("name", list(TASKS))
def test_the_page_has_the_overrides_of_the_command(name):
    page = (REPOSITORY / "docs" / "tasks.md").read_text()
    (block,) = (
        block
        for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
        if f"example {name} " in block
    )
    for word in TASKS[name].overrides:
        assert word.format(root=f"data/{name}") in block


def test_the_command_writes_the_same_set_and_says_how_to_train(root, tmp_path):
    output = call("example", "polyp", tmp_path / "polyp")
    assert f'domain.target.root={tmp_path / "polyp"} "+domain.target.options.groups=' in output
    files = sorted(path for path in (root / "polyp").rglob("*") if path.is_file())
    assert len(files) == 2 * 16 * 4
    for file in files:
        again = tmp_path / "polyp" / file.relative_to(root / "polyp")
        assert again.read_bytes() == file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["polyp"]


def test_all_images_differ_and_none_is_blank(root):
    images = [np.asarray(Image.open(file)) for file in root.rglob("*.png")]
    assert len({image.tobytes() for image in images}) == len(images)
    assert min(image.std() for image in images) > 3


def test_an_existing_folder_is_not_changed(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="mine: already exists"):
        call("example", "polyp", tmp_path / "mine")
    with pytest.raises(UserError, match="carotid: no such example; there are polyp, frames"):
        call("example", "carotid", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.fixture(scope="module")
def outputs(compose_config, root, tmp_path_factory):
    """Two tiny runs on the emboli."""
    outputs = tmp_path_factory.mktemp("outputs")
    small = ("model.input_size=67", "recipe.epochs=2", "recipe.min_steps=0")
    small = (*small, "trainer.accelerator=cpu")
    for seed in (0, 1):
        more = (*small, f"seed={seed}", f"paths.outputs={outputs}")
        ChainRunner(settings(compose_config, root, "embolism", *more)).run()
    return outputs


def froc(root: Path, *words: object) -> str:
    embolism = root / "embolism"
    tables = ("--lesions", embolism / "lesions.csv", "--table", embolism / "labels.csv")
    return call("froc", *words, *tables, "--count", 100)


def test_a_run_on_the_emboli_gives_its_roc_curve(outputs):
    call("roc", outputs, "--count", 100)
    figures = pd.read_csv(outputs / "roc" / "figures.csv")
    assert set(figures["class"]) == {"embolus"}
    assert (outputs / "roc" / "roc-r1.png").is_file()


def test_runs_on_the_emboli_give_their_froc_curves(root, outputs):
    froc(root, outputs)
    curves = pd.read_csv(outputs / "froc" / "curves.csv")
    runs = [file.parent for file in outputs.glob("runs/*/metrics.json")]
    assert set(curves["system"]) == {run.name for run in runs}
    lesions = pd.read_csv(root / "embolism" / "lesions.csv", keep_default_na=False)
    lesions = lesions[(lesions["split"] == "test") & (lesions["lesion"] != "")]
    hits = pd.read_csv(root / "embolism" / "labels.csv", keep_default_na=False)
    hits = hits.set_index("file")["lesion"]
    for run in runs:  # counted again at each threshold
        images = pd.read_csv(run / "predictions.csv")
        images["lesion"] = hits[images["id"]].to_numpy()
        for row in curves[curves["system"] == run.name].to_dict("records"):
            called = images[images["p_embolus"] >= row["threshold"] - 1e-12]
            found = called[called["lesion"] != ""][["group", "lesion"]].drop_duplicates()
            assert row["sensitivity"] == pytest.approx(len(found) / len(lesions))
            false = (called["lesion"] == "").sum() / 5
            assert row["false_positives_per_case"] == pytest.approx(false)
    assert curves["sensitivity"].max() == pytest.approx(8 / 9)  # one that no candidate hits


def test_runs_that_froc_refuses_get_one_line(root, outputs, tmp_path):
    with pytest.raises(UserError, match=r"that their images hit are unknown\. Give --table"):
        call("froc", outputs, "--lesions", root / "embolism" / "lesions.csv")
    with pytest.raises(UserError, match="--positive lung: none of the classes other, embolus"):
        froc(root, outputs, "--positive", "lung")
    short = tmp_path / "short.csv"
    short.write_text("file,lesion\ncandidates/p00_0.png,E1\n")
    lesions = root / "embolism" / "lesions.csv"
    with pytest.raises(UserError, match=r"short\.csv: no row for candidates/p11_0\.png, a test"):
        call("froc", outputs, "--lesions", lesions, "--table", short)
    (tmp_path / "lesions.csv").write_text("case,lesion,split\np00,E1,train\n")
    with pytest.raises(UserError, match="no row has the split test"):
        call("froc", outputs, "--lesions", tmp_path / "lesions.csv", "--table", short)
