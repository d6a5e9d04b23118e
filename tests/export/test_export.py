"""Export and back: the same predictions; one line where a file doesn't fit; nothing by halves."""

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
from stagetransfer.cli.app import app
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.export import export_run
from stagetransfer.export.onnx_file import Agreement, compare, write_onnx
from stagetransfer.models import LAYERS, AlexNet, load_weights
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.restore import restore_runs


def start(compose_config, outputs, *overrides):
    return ChainRunner(
        validate_config(compose_config(*SMALL, f"paths.outputs={outputs}", *overrides))
    )


@pytest.fixture(scope="module")
def run(compose_config, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    return start(compose_config, outputs, "+experiment=scratch", "recipe.epochs=1").run()


@pytest.fixture(scope="module")
def exported(run):
    result = CliRunner().invoke(app, ["export", str(run), "--licence", "cc-by-4.0"])
    assert result.exit_code == 0, result.output
    assert "model.onnx  differs from PyTorch by at most" in result.output
    return run.parent.parent / "export" / run.name


def test_the_files_predict_what_the_run_predicted(run, exported):
    finished = restore_runs([run])[0]
    images = finished.data.inputs("test", range(finished.data.count("test")))
    table = pd.read_csv(run / "predictions.csv")
    recorded = table[[f"p_{name}" for name in finished.data.classes]].to_numpy()
    network = AlexNet(7, "paper", input_size=67).eval()
    network.load_state_dict(load_weights(exported / "model.safetensors"))
    with torch.no_grad():
        ours = network(images).softmax(1).numpy()
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    (logits,) = session.run(None, {"images": images.numpy()})
    assert np.abs(ours - recorded).max() < 1e-5
    assert np.abs(torch.from_numpy(logits).softmax(1).numpy() - recorded).max() < 1e-5


def test_what_the_files_say_of_themselves(run, exported):
    with safe_open(exported / "model.safetensors", "pt") as file:
        told = json.loads(file.metadata()["stagetransfer"])
    assert told["input_size"] == 67
    assert told["classes"] == ["CON", "GGO", "HCM", "RET", "EMP", "NOD", "NOR"]
    assert told["mean"] == [0.485, 0.456, 0.406]
    model = onnx.load(exported / "model.onnx")
    assert {entry.key: entry.value for entry in model.metadata_props}["stagetransfer"] == (
        json.dumps(told, sort_keys=True)
    )
    assert [node.op_type for node in model.graph.node].count("LRN") == 2
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 18)}


def test_the_card_has_figures_with_intervals_and_limits(run, exported):
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


def test_the_same_run_gives_the_same_weights_file(run, exported, tmp_path):
    export_run(run, tmp_path / "again", onnx=False, count=50)
    first, again = (folder / "model.safetensors" for folder in (exported, tmp_path / "again"))
    assert first.read_bytes() == again.read_bytes()  # a stage that starts from it: one key
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
    trained = restore_runs([folder])[0].network().state_dict()
    for name, tensor in load_file(file).items():  # frozen: what was carried is what there is
        same = torch.equal(trained[name], tensor)
        assert same == (name.split(".")[0] in LAYERS[:6])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.input_size=83", r"fc6\.weight: file \(4096, 256\), network \(4096, 1024\)"),
        ("model=torchvision", r"conv1\.weight: file \(96, 3, 11, 11\), network \(64, 3, 11, 11\)"),
        ("model.mean=[0,0,0]", r"trained on input of mean=\[0\.485, 0\.456, 0\.406\]"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(compose_config, exported, tmp_path, override, said):
    file = exported / "model.safetensors"
    given = ("domain/natural=pretrained", f"domain.natural.weights={file}")
    with pytest.raises(UserError, match=said) as caught:
        start(
            compose_config, tmp_path, "+experiment=natural", *given, "~domain.natural.options",
            override,
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_description_that_is_none_is_refused(exported, tmp_path):
    tensors = load_file(exported / "model.safetensors")
    path = tmp_path / "odd.safetensors"
    for text in ("{", "[]", '{"mean": 3}'):
        save_file(tensors, path, {"stagetransfer": text})
        with pytest.raises(UserError, match="description can't be read"):
            load_weights(path)
    save_file(tensors, path, {"format": "pt"})  # a file of others says nothing: taken as before
    assert load_weights(path).keys() == tensors.keys()


@pytest.mark.parametrize("variant", ["bvlc", "torchvision"])  # the run above is of "paper"
def test_the_other_forms_export(variant, tmp_path):
    torch.manual_seed(0)
    network = AlexNet(3, variant, input_size=70)
    write_onnx(network, tmp_path / "model.onnx", {})
    agreement = compare(network, tmp_path / "model.onnx")
    assert agreement.holds
    assert agreement.greatest > 0


def test_a_difference_writes_nothing(run, tmp_path, monkeypatch):
    from stagetransfer.export import bundle

    monkeypatch.setattr(bundle, "write_onnx", lambda network, path, told: path.touch())
    for difference in (0.01, float("inf")):
        monkeypatch.setattr(bundle, "compare", lambda *_, d=difference: Agreement(d, 5.0))
        with pytest.raises(UserError, match="ONNX Runtime differs from PyTorch by"):
            export_run(run, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_other_weights_do_not_agree(exported):
    assert not compare(AlexNet(7, input_size=67), exported / "model.onnx").holds


def test_what_is_refused(run, exported, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="is there already; remove it"):
        export_run(run)
    with pytest.raises(UserError, match="holds no run"):
        export_run(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r'onnxruntime; install it by pip .*\[export\]"'):
        export_run(run, tmp_path / "out")
    assert not list(tmp_path.iterdir())
