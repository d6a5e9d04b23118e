"""Export: the same predictions from the files, one-line errors, and nothing half-written."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from conftest import SMALL
from made_runs import make_run
from stagetransfer.cli.app import app
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.export import export_run
from stagetransfer.export.model_card import model_card
from stagetransfer.export.onnx_file import Agreement, compare_with_onnx, write_onnx
from stagetransfer.models import AlexNet, InputSpec, alexnet_backbone, load_weights
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.restore import RestoredRun, restore_runs
from stagetransfer.runs.reader import read_record, read_runs
from stagetransfer.runs.study import Study
from stagetransfer.training.machine import autocast


def start(compose_config, outputs, *overrides):
    return ChainRunner(
        validate_config(compose_config(*SMALL, f"paths.outputs={outputs}", *overrides))
    )


@pytest.fixture(scope="module")
def runs(compose_config, tmp_path_factory):
    """One small run from scratch for each precision."""
    return {
        precision: start(
            compose_config,
            tmp_path_factory.mktemp("outputs"),
            "+experiment=scratch",
            "recipe.epochs=1",
            f"trainer.precision={precision}",
            # PyTorch's own convolutions, which the test uses, round differently in bfloat16.
            f"trainer.winograd={str(precision == '32-true').lower()}",
        ).run()
        for precision in ("32-true", "bf16-mixed")
    }


@pytest.fixture(scope="module")
def run(runs):
    return runs["32-true"]


def exported_by_command(run):
    result = CliRunner().invoke(app, ["export", str(run), "--licence", "cc-by-4.0"])
    assert result.exit_code == 0, result.output
    assert "model.onnx  differs from PyTorch by at most" in result.output
    return run.parent.parent / "export" / run.name


@pytest.fixture(scope="module")
def exported_runs(runs):
    return {precision: exported_by_command(run) for precision, run in runs.items()}


@pytest.fixture(scope="module")
def exported(exported_runs):
    return exported_runs["32-true"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_files_predict_what_the_run_predicted(runs, exported_runs, precision):
    run, exported = runs[precision], exported_runs[precision]
    finished = restore_runs([run])[0]
    assert finished.config.trainer.precision == precision
    images = finished.data.inputs("test", range(finished.data.count("test")))
    table = pd.read_csv(run / "predictions.csv")
    recorded = table[[f"p_{name}" for name in finished.data.classes]].to_numpy()
    network = AlexNet(7, "paper", input_size=67).eval()
    network.load_state_dict(load_weights(exported / "model.safetensors"))
    with torch.no_grad(), autocast(precision, "cpu"):
        found = network(images).double().softmax(1).numpy()
    assert np.abs(found - recorded).max() < 1e-5
    # The ONNX file computes in float32, whatever the precision of the run.
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    (logits,) = session.run(None, {"images": images.numpy()})
    onnx_probabilities = torch.from_numpy(logits).softmax(1).numpy()
    with torch.no_grad():
        expected = network(images).softmax(1).numpy()
    assert np.abs(onnx_probabilities - expected).max() < 1e-5
    if precision == "32-true":
        assert np.abs(onnx_probabilities - recorded).max() < 1e-5


def test_the_files_describe_themselves(run, exported):
    with safe_open(exported / "model.safetensors", "pt") as file:
        description = json.loads(file.metadata()["stagetransfer"])
    assert description["input_size"] == 67
    assert description["classes"] == ["CON", "GGO", "HCM", "RET", "EMP", "NOD", "NOR"]
    assert description["mean"] == [0.485, 0.456, 0.406]
    model = onnx.load(exported / "model.onnx")
    assert {entry.key: entry.value for entry in model.metadata_props}["stagetransfer"] == (
        json.dumps(description, sort_keys=True)
    )
    assert [node.op_type for node in model.graph.node].count("LRN") == 2
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 18)}


def test_the_card_has_metrics_with_intervals_and_limits(run, exported):
    card = (exported / "README.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    assert card.startswith('---\nlicense: "cc-by-4.0"\n')
    assert "Research use, not a diagnosis" in card
    assert f"| accuracy | {metrics['test']['accuracy']:.3f} | [" in card
    assert f"| target | {metrics['num_train']} and {metrics['num_validation']} | 1 |" in card
    assert f"| CON | {metrics['num_train_per_class']['CON']} | " in card
    assert "it says nothing about images of patients" in card
    assert "Fewer than ten groups in HCM (9), RET (9)" in card
    assert str(run.parent) not in card


def test_the_card_names_the_precision_of_the_run(exported_runs):
    for precision, differs in (("32-true", False), ("bf16-mixed", True)):
        card = (exported_runs[precision] / "README.md").read_text()
        assert f"`{precision}`" in card
        assert ("can differ slightly from the tested ones" in card) is differs


def card_of(compose_config, outputs, *overrides):
    """Return the card of a made run with these settings."""
    folder = make_run(outputs)
    config = validate_config(compose_config(*SMALL, "+experiment=scratch", *overrides))
    record = read_record(folder)
    counts = {"num_train": 30, "num_validation": 10}
    kinds = dict.fromkeys(("carried", "reinitialised", "frozen"), ())
    record["versions"] = {"stagetransfer": "0.2.0"}
    record["stages"] = [{**counts, **kinds, **stage} for stage in record["stages"]]
    run = RestoredRun(folder, record, config, {})
    return model_card(run, Study(read_runs([folder])[0], 50), None, "")


@pytest.mark.parametrize(
    ("overrides", "name", "tag"),
    [
        ((), "AlexNet (variant `paper`)", "alexnet"),
        (("model=timm", "model.name=resnet10t"), "`resnet10t` of timm", "resnet10t"),
        (("model=torchvision_zoo", "model.name=resnet18"), "`resnet18` of torchvision", "resnet18"),
    ],
)
def test_the_card_names_the_network(compose_config, tmp_path, overrides, name, tag):
    card = card_of(compose_config, tmp_path, *overrides)
    assert f"This network is {name}. It classifies image patches into" in card
    assert f'tags: ["{tag}", transfer-learning,' in card


def test_the_card_says_how_images_become_input(compose_config, tmp_path):
    card = card_of(compose_config, tmp_path / "a")
    assert "float32; RGB, grey images copied to three channels |" in card
    assert "| size | the central square of the image, resized to 67 pixels by PIL's" in card
    words = ["domain/target=folder", f"domain.target.root={tmp_path}", "domain.target.fit=stretch"]
    (tmp_path / "summary.json").write_text('{"cut": {"neighbours": 1}}')
    card = card_of(compose_config, tmp_path / "b", *words)
    assert "float32; the slice before, the slice itself and the one after, in grey |" in card
    assert "| size | the whole image, stretched to a square of 67 pixels by PIL's" in card


def test_the_same_run_gives_the_same_weights_file(run, exported, tmp_path):
    export_run(run, tmp_path / "again", onnx=False, count=50)
    first, again = (folder / "model.safetensors" for folder in (exported, tmp_path / "again"))
    assert first.read_bytes() == again.read_bytes()  # so that stages have one key
    assert not (tmp_path / "again" / "model.onnx").exists()


def test_an_exported_file_is_a_source(compose_config, exported, tmp_path):
    file = exported / "model.safetensors"
    given = ("domain/natural=pretrained", f"domain.natural.weights={file}")
    folder = start(
        compose_config, tmp_path, "+experiment=natural", *given, "~domain.natural.options",
        "transfer.mode=frozen", "recipe.epochs=1",
    ).run()  # fmt: skip
    entry = json.loads((folder / "metrics.json").read_text())["stages"][0]
    assert entry["weights"] == str(file)
    trained = restore_runs([folder])[0].network().state()
    for name, tensor in load_file(file).items():  # carried layers are frozen
        same = torch.equal(trained[name], tensor)
        assert same == (name.split(".")[0] in LAYERS[:6])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.input_size=83", r"fc6\.weight: file \(4096, 256\), network \(4096, 1024\)"),
        ("model=torchvision", r"conv1\.weight: file \(96, 3, 11, 11\), network \(64, 3, 11, 11\)"),
        ("model.mean=[0,0,0]", r"expect input of mean=\[0\.485, 0\.456, 0\.406\]"),
    ],
)
def test_another_network_or_input_is_one_line(
    compose_config, exported, tmp_path, override, message
):
    file = exported / "model.safetensors"
    given = ("domain/natural=pretrained", f"domain.natural.weights={file}")
    with pytest.raises(UserError, match=message) as caught:
        start(
            compose_config, tmp_path, "+experiment=natural", *given, "~domain.natural.options",
            override,
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_invalid_description_is_refused(exported, tmp_path):
    tensors = load_file(exported / "model.safetensors")
    path = tmp_path / "odd.safetensors"
    for text in ("{", "[]", '{"mean": 3}'):
        save_file(tensors, path, {"stagetransfer": text})
        with pytest.raises(UserError, match="description can't be read"):
            load_weights(path)
    # A file from another tool has no description and is read without one.
    save_file(tensors, path, {"format": "pt"})
    assert load_weights(path).keys() == tensors.keys()


@pytest.mark.parametrize("variant", ["bvlc", "torchvision"])  # the runs above have "paper"
def test_the_other_variants_export(variant, tmp_path):
    torch.manual_seed(0)
    network = alexnet_backbone(3, variant, input=InputSpec(70))
    write_onnx(network, tmp_path / "model.onnx", {})
    agreement = compare_with_onnx(network, tmp_path / "model.onnx")
    assert agreement.holds
    assert agreement.largest > 0


def test_a_difference_writes_nothing(run, tmp_path, monkeypatch):
    from stagetransfer.export import bundle

    monkeypatch.setattr(bundle, "write_onnx", lambda network, path, properties: path.touch())
    for difference in (0.01, float("inf")):
        monkeypatch.setattr(bundle, "compare_with_onnx", lambda *_, d=difference: Agreement(d, 5.0))
        with pytest.raises(UserError, match="ONNX Runtime differs from PyTorch by"):
            export_run(run, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_different_weights_do_not_agree(exported):
    assert not compare_with_onnx(
        alexnet_backbone(7, input=InputSpec(67)), exported / "model.onnx"
    ).holds


def test_bad_input_is_refused(run, exported, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="already exists"):
        export_run(run)
    with pytest.raises(UserError, match="holds no run"):
        export_run(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r'onnxruntime: .* pip install .*\[export\]"'):
        export_run(run, tmp_path / "out")
    assert not list(tmp_path.iterdir())
