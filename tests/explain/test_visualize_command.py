"""`stagetransfer visualize` on small real runs: the files that it writes, and their values."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from conftest import SMALL
from stagetransfer.cli.app import main
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.explain import (
    SaliencyMethod,
    edge_energy,
    linear_cka,
    open_compared_runs,
    write_visualization,
)
from stagetransfer.explain.measure_figures import cka_between_figure, similarity_figure
from stagetransfer.explain.measure_tables import MeasureTables, weighted_means
from stagetransfer.explain.run_measures import SIMILARITY_MEASURES, compact_features, measure_run
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.statistics import resample
from stagetransfer.training.machine import autocast


def train(compose_config, folder, experiment, *overrides):
    small = (*SMALL, "recipe.epochs=1", f"paths.outputs={folder}", f"+experiment={experiment}")
    ChainRunner(validate_config(compose_config(*small, *overrides))).run()


@pytest.fixture(scope="module")
def outputs(compose_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    for name in ("texture", "scratch"):
        train(compose_config, folder, name)
    return folder


def copied(outputs, target, **changes):
    """Copy the texture run and change its record, as if it were another run."""
    shutil.copytree(next((outputs / "runs").glob("texture-*")), target)
    record = json.loads((target / "metrics.json").read_text())
    stage = changes.pop("stage", {})
    record.update(changes)
    record["stages"][-1].update(stage)
    (target / "metrics.json").write_text(json.dumps(record))
    return target


@pytest.fixture(scope="module")
def compared(outputs):
    found = open_compared_runs([outputs], None, [])
    # One epoch is too short to learn; here the runs count as if they had.
    found.__dict__["failures"] = {}
    return found


@pytest.fixture(scope="module")
def written(compared, tmp_path_factory):
    out = tmp_path_factory.mktemp("written")
    write_visualization(compared, out, SaliencyMethod(), images=12)
    return out


def test_compared_runs_have_one_ratio_and_are_in_order(compared, outputs, tmp_path):
    assert [run.condition for run in compared.runs] == ["scratch", "texture"]
    second = copied(outputs, tmp_path / "second", seed=1)
    half = copied(outputs, tmp_path / "half", ratio=0.5)
    both = open_compared_runs([outputs, second, half], None, [])
    assert [(run.condition, run.seed) for run in both.runs] == [
        ("scratch", 0), ("texture", 0), ("texture", 1),
    ]  # fmt: skip
    assert [run.folder for run in open_compared_runs([outputs, half], 0.5, []).runs] == [half]
    assert [run.folder for run in open_compared_runs([outputs, second], None, [1]).runs] == [second]


def test_compared_runs_know_their_test_set(compared):
    predictions = pd.read_csv(compared.runs[0].folder / "predictions.csv")
    assert [compared.classes[label] for label in compared.labels] == predictions["label"].tolist()
    assert compared.groups.tolist() == predictions["group"].tolist()


@pytest.fixture(scope="module")
def bf16_outputs(compose_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bf16")
    train(compose_config, folder, "scratch", "trainer.precision=bf16-mixed")
    return folder


@pytest.mark.parametrize(
    ("folder", "precision"), [("outputs", "32-true"), ("bf16_outputs", "bf16-mixed")]
)
def test_the_opened_network_predicts_as_in_the_test(request, folder, precision):
    compared = open_compared_runs([request.getfixturevalue(folder)], None, [])
    run = compared.runs[-1]
    assert run.config.trainer.precision == precision
    predictions = pd.read_csv(run.folder / "predictions.csv")
    images = compared.inputs(run, np.arange(len(compared.labels)))
    with torch.no_grad(), autocast(precision, "cpu"):
        found = run.network()(images).double().softmax(1).numpy()
    recorded = predictions[[f"p_{name}" for name in compared.classes]].to_numpy()
    np.testing.assert_allclose(found, recorded, atol=1e-5)


def test_all_files_are_written(written, compared):
    pages = {"figure6", "filters", "edges", "likeness", "cka_between", "cka_transfers"}
    pages |= {f"{page}_{name}" for page in ("control", "patches") for name in compared.conditions}
    tables = {"edges", "likeness", "cka_between", "cka_transfers"}
    assert {path.name for path in written.iterdir()} == (
        {f"{page}.{end}" for page in pages for end in ("png", "svg")}
        | {f"{table}.csv" for table in tables}
        | {"summary.md"}
    )
    summary = (written / "summary.md").read_text()
    assert "texture - scratch: " in summary
    for name in ("figure6.png", "edges.png", "likeness.png", "control_texture.png"):
        assert f"({name})" in summary


def test_the_tables_hold_the_means_of_the_measures(written, compared):
    positions = compared.draw_images(12)
    run = compared.runs[1]
    images, data = compared.inputs(run, positions), compared.data(run)
    maps = SaliencyMethod().maps(run.network(), images)
    energy = edge_energy(maps, images * data.std + data.mean).nanmean().item()
    edges = pd.read_csv(written / "edges.csv").set_index("condition")
    row = edges.loc["texture"]
    assert row["edge_share"] == pytest.approx(energy, abs=1e-5)
    assert row["edge_share_low"] <= row["edge_share"] <= row["edge_share_high"]
    assert (row["seeds"], row["images"]) == (1, len(positions))
    assert row["groups"] == len(set(compared.groups[positions]))


def test_the_control_changes_only_maps_that_depend_on_the_weights(written):
    table = pd.read_csv(written / "likeness.csv").set_index(["condition", "random_from", "measure"])
    value = table["value"]
    for name in ("scratch", "texture"):
        assert value[name, "trained", "ssim_trained"] == pytest.approx(1)
        # The way back from pool5 does not pass the classifier.
        assert value[name, "fc6", "rank_trained"] == pytest.approx(1)
        assert value[name, "conv5", "rank_trained"] < 1
        assert value[name, "conv1", "rank_trained"] < value[name, "conv5", "rank_trained"]


def test_a_class_seed_is_changed_by_a_random_classifier(compared):
    found = measure_run(
        compared, compared.runs[0], compared.draw_images(10), SaliencyMethod(start=("class", 0))
    )
    assert np.nanmean(found.similarity["fc8"]["rank_trained"]) < 1


def test_compact_features_have_the_same_cka(compared):
    first, second = compared.runs[0].network(), compared.runs[1].network()
    images = compared.inputs(compared.runs[0], compared.draw_images(12))
    ours, other = compact_features(first, images), compact_features(second, images)
    assert tuple(ours) == first.blocks
    for name, module_name in (("conv2", "relu2"), ("fc6", "relu6"), ("fc8", "fc8")):
        whole = []
        for network in (first, second):
            x = images
            with torch.no_grad():
                for child, module in network.net.named_children():
                    x = module(x)
                    if child == module_name:
                        break
            whole.append(x)
        expected = linear_cka(*whole)
        assert linear_cka(ours[name], other[name]) == pytest.approx(expected, abs=1e-9)


def test_cka_before_and_after_a_transfer(written, compared):
    table = pd.read_csv(written / "cka_transfers.csv").set_index(["condition", "layer"])
    assert set(table.index.get_level_values(0)) == {"texture"}  # scratch has no transfer
    rows = table.loc["texture"]
    assert rows["before"].unique().tolist() == ["texture"]
    assert rows["after"].unique().tolist() == ["target"]
    assert rows.loc["conv1", "cka"] > 0.9  # one epoch hardly moves the first layer
    assert rows.loc["fc7", "cka"] < rows.loc["conv1", "cka"]  # re-initialised
    assert (rows["seeds"] == 1).all()


def test_conditions_that_did_not_learn_are_not_compared(compared, outputs):
    failures = open_compared_runs([outputs], None, []).failures
    assert set(failures) <= {"scratch", "texture"}  # judged from the files of the runs
    positions = compared.draw_images(8)
    found = [measure_run(compared, run, positions, SaliencyMethod()) for run in compared.runs]
    failed = replace(compared)
    failed.__dict__["failures"] = {"scratch": "did not learn in 1 of 1 runs (constant output)"}
    tables = MeasureTables(failed, found, positions)
    assert tables.edge_comparisons() == [
        "texture - scratch: not compared: scratch did not learn in 1 of 1 runs (constant output)"
    ]
    assert tables.cka_between().empty
    assert len(tables.edges()) == 2
    assert len(MeasureTables(compared, found, positions).cka_between()) == 8


def test_without_the_stage_store_transfers_are_left_out(compared, outputs):
    run = compared.runs[1]
    stages, away = outputs / "stages", outputs / "away"
    stages.rename(away)
    try:
        found = measure_run(compared, run, compared.draw_images(8), SaliencyMethod())
    finally:
        away.rename(stages)
    assert found.transfers == []
    assert MeasureTables(compared, [found], compared.draw_images(8)).cka_transfers().empty


def test_weighted_means_are_plain_means_and_skip_nan():
    labels, groups = np.array([0, 0, 1, 1, 1]), np.array(list("aabbc"))
    values = np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, np.nan, 3.0, 4.0, 0.0]])
    resamples = resample(labels, groups, ["x", "y"], seeds=2, count=50)
    means = weighted_means(resamples, values)
    np.testing.assert_allclose(means[0], [3.0, 2.0])
    by_group = dict(zip(np.unique(groups), range(3), strict=True))
    weights = resamples.weights[:, [by_group[name] for name in groups]]
    expected = (weights * values[0]).sum(1) / weights.sum(1)
    np.testing.assert_allclose(means[:, 0], expected)


def test_other_test_sets_are_refused(outputs, tmp_path):
    changes = {"condition": "natural", "stage": {"fingerprint": "another"}}
    other = copied(outputs, tmp_path / "natural", **changes)
    with pytest.raises(UserError, match=r"fingerprints \w+ and another"):
        open_compared_runs([outputs, other], None, [])


def test_other_blocks_are_refused(outputs, tmp_path):
    blocks = {"stem": ["conv1.weight"], "fc": ["fc.weight", "fc.bias"]}
    other = copied(outputs, tmp_path / "natural", condition="natural", blocks=blocks)
    with pytest.raises(UserError, match="differ in the blocks of the network"):
        open_compared_runs([outputs, other], None, [])
    # Earlier versions did not record the blocks, which were the layers of AlexNet.
    record = json.loads((other / "metrics.json").read_text())
    del record["blocks"]
    (other / "metrics.json").write_text(json.dumps(record))
    assert len(open_compared_runs([outputs, other], None, []).runs) == 3


@pytest.mark.parametrize(
    ("model", "size", "first", "patches"),
    [("resnet18", 64, "stem", True), ("vit_tiny_patch16_224", 32, "patch_embed", False)],
)
def test_library_networks(compose_config, tmp_path, model, size, first, patches):
    options = ["model=torchvision_zoo"] if patches else ["model=timm", "+model.options.depth=2"]
    size = f"model.input_size={size}"
    train(compose_config, tmp_path, "scratch", *options, f"model.name={model}", size)
    compared = open_compared_runs([tmp_path], None, [])
    run, out = compared.runs[0], tmp_path / "out"
    blocks = run.network().blocks
    method = SaliencyMethod() if patches else SaliencyMethod("salinet")
    lines = write_visualization(compared, out, method, images=8)
    assert {path.name for path in out.glob("*.png")} == {
        "figure6.png", "filters.png", "control_scratch.png", "edges.png", "likeness.png",
        *(["patches_scratch.png"] if patches else []),
    }  # fmt: skip
    assert any(f"no patches: layer={blocks[1]}" in line for line in lines) != patches
    levels = pd.read_csv(out / "likeness.csv")["random_from"].unique().tolist()
    assert levels == ["trained", *reversed(blocks)]
    feature_map = run.network().feature_map
    assert f"of {feature_map} (all features)" in (out / "summary.md").read_text()
    features = compact_features(run.network(), compared.inputs(run, np.arange(5)))
    assert tuple(features) == blocks
    assert blocks[0] == first
    if not patches:
        with pytest.raises(
            UserError, match=r"VisionTransformer has .* place of ReLU.* Use salinet"
        ):
            write_visualization(compared, tmp_path / "no", SaliencyMethod())
        assert not (tmp_path / "no").exists()
        with pytest.raises(UserError, match=r"layer=blocks\.0: its output has no positions"):
            write_visualization(compared, tmp_path / "no", method, patch_layer="blocks.0")


@pytest.mark.parametrize("blocks", [6, 14])
def test_names_of_blocks_do_not_overlap(blocks):
    names = [f"features.denseblock{number}" for number in range(blocks)]
    cka = pd.DataFrame(
        [{"a": "x", "b": "y", "layer": name, "cka": 0.5, "least": 0.4, "greatest": 0.6}
         for name in names]
    )  # fmt: skip
    similarity = pd.DataFrame(
        [{"condition": "x", "random_from": name, "measure": measure, "value": 0.5,
          "value_low": 0.4, "value_high": 0.6}
         for name in ("trained", *names) for measure in SIMILARITY_MEASURES]
    )  # fmt: skip
    for figure in (cka_between_figure(cka), similarity_figure(similarity)):
        FigureCanvasAgg(figure).draw()
        for axis in figure.axes:
            boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
            assert len(boxes) >= blocks
            assert all(a.x1 <= b.x0 for a, b in pairwise(boxes))
            assert all(box.y0 >= 0 for box in boxes)


def test_two_runs_of_one_name_are_refused(outputs, tmp_path):
    other = copied(outputs, tmp_path / "other")
    with pytest.raises(UserError, match="and other: the same condition, ratio and seed"):
        open_compared_runs([outputs, other], None, [])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["{runs}", "--method", "gradcam"], "--method gradcam: unknown. Use one of desalinet"),
        (["{runs}", "--scale", "jet"], "--scale jet: unknown. Use one of official"),
        (["{runs}", "--start", "channel"], "--start channel: unknown. Use features"),
        (["{runs}", "--ratio", "0.3"], "ratio 0.3, seeds any: no finished run"),
    ],
)
def test_bad_input_is_one_line_and_code_2(outputs, tmp_path, monkeypatch, capsys, arguments, line):
    filled = [argument.format(runs=outputs) for argument in arguments]
    monkeypatch.setattr(
        sys, "argv", ["stagetransfer", "visualize", *filled, "--out", str(tmp_path / "out")]
    )
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {line}")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
