"""The data-dependent start: outputs of standard deviation 1, and a first loss of ln K."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from stagetransfer.files import read_json
from stagetransfer.models import InputSpec, alexnet_backbone, scale_outputs
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.pipeline.stage import prepare
from stagetransfer.training import ScaledStart


def outputs(network, images):
    """Return the output of each layer on the images."""
    found = {}
    for name in LAYERS:
        network.net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: found.update({name: output})
        )
    with torch.no_grad():
        network.eval()(images)
    return found


def lsuv(classes=7, **options):
    network = alexnet_backbone(classes, input=InputSpec(67), **options)
    network.initialise("lsuv", 0)
    return network


@pytest.mark.parametrize("variant", ["paper", "bvlc", "torchvision"])
def test_every_layers_output_has_the_stated_spread(variant):
    network, images = lsuv(variant=variant), torch.randn(8, 3, 67, 67)
    scale_outputs(network, images)
    spread = {name: float(x.std()) for name, x in outputs(network, images).items()}
    assert spread == pytest.approx(dict.fromkeys(LAYERS, 1.0) | {"fc8": 0.1}, rel=1e-3)


def test_only_the_named_layers_are_changed():
    network, images = lsuv(), torch.randn(8, 3, 67, 67)
    before = {name: x.clone() for name, x in network.state().items()}
    scale_outputs(network, images, ["fc7", "fc8"])
    changed = {n for n, x in network.state().items() if not torch.equal(x, before[n])}
    assert changed == {"fc7.weight", "fc8.weight"}
    assert network.training


@given(st.integers(2, 50), st.floats(-300, 300), st.floats(1e-3, 100))
@settings(max_examples=10)
def test_the_first_loss_is_ln_k_whatever_the_images(classes, mean, spread):
    network = lsuv(classes)
    images = mean + spread * torch.randn(16, 3, 67, 67)
    scale_outputs(network, images)
    with torch.no_grad():
        loss = F.cross_entropy(network.eval()(images), torch.arange(16) % classes)
    assert float(loss) == pytest.approx(math.log(classes), abs=0.3)


def test_images_without_any_contrast_leave_finite_weights():
    network = lsuv()
    scale_outputs(network, torch.zeros(4, 3, 67, 67))
    assert all(x.isfinite().all() for x in network.state_dict().values())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_every_stage_of_the_quick_recipe_starts_at_ln_k(start, tmp_path, precision):
    run = start(tmp_path, "+experiment=natural", f"trainer.precision={precision}").run()
    for stage in read_json(run / "metrics.json")["stages"]:
        health = stage["health"]
        assert health["chance_loss"] == pytest.approx(-math.log(health["chance"]))
        assert health["first_loss"] == pytest.approx(health["chance_loss"], abs=0.3)


def test_the_module_is_scaled_where_its_weights_are(start, tmp_path):
    """On a GPU, Lightning states the later device while the weights are still on the CPU."""
    run = start(tmp_path, "+experiment=scratch")
    module, data, _ = prepare(run.stages[-1], run.config)
    module._device = torch.device("meta")
    before = module.network.net.fc8.weight.clone()
    ScaledStart(data, LAYERS, seed=0).setup(SimpleNamespace(ckpt_path=None), module, "fit")
    assert not torch.equal(module.network.net.fc8.weight, before)


def test_a_resumed_training_is_not_scaled_again(start, tmp_path):
    run = start(tmp_path, "+experiment=scratch")
    module, data, _ = prepare(run.stages[-1], run.config)
    before = module.network.net.fc8.weight.clone()
    ScaledStart(data, LAYERS, seed=0).setup(SimpleNamespace(ckpt_path="last.ckpt"), module, "fit")
    assert torch.equal(module.network.net.fc8.weight, before)


def test_the_first_loss_does_not_depend_on_accumulated_gradients(start, tmp_path):
    words = ["+experiment=scratch", "trainer.accumulate_grad_batches=4"]
    health = read_json(start(tmp_path, *words).run() / "metrics.json")["stages"][-1]["health"]
    assert health["first_loss"] == pytest.approx(health["chance_loss"], abs=0.3)
