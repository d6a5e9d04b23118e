"""Table II of Tajbakhsh 2016: the learning rates that the optimiser uses, by layer and epoch."""

from collections import defaultdict

import pytest
import torch

from conftest import SMALL
from stagetransfer.config.validate import validate_config
from stagetransfer.files import read_json
from stagetransfer.models import InputSpec, alexnet_backbone
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.training import CaffeSGD

EPOCHS, BATCH = 2, 32


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    network = alexnet_backbone(5, input=InputSpec(67))
    network.initialise("kaiming", 0)
    path = tmp_path_factory.mktemp("weights") / "natural.pt"
    torch.save(network.state(), path)
    return path


def table_two(configuration, name, epoch):
    """The learning rate of a tensor in the paper, or None if it is frozen."""
    if configuration != "scratch" and LAYERS.index(name.split(".")[0]) < LAYERS.index(
        configuration
    ):
        return None
    rate = 0.01 if configuration != "scratch" and name.startswith("fc8") else 0.001
    return rate * (2 if name.endswith(".bias") else 1) * 0.95**epoch


def part(tensor):
    """A part of the values, which is enough: all have the same rate."""
    return tensor.flatten()[:20000].double()


def record_rates(monkeypatch):
    """The learning rates of each tensor at each step, computed from the change of the tensor.

    In V' = mu V - rate dL and W' = W + V' the rate is the only unknown.
    """
    seen = defaultdict(list)
    velocity = {}
    original = CaffeSGD.step

    def step(self, closure=None):
        loss = closure()
        before = {g["name"]: part(g["params"][0].detach()) for g in self.param_groups}
        original(self, None)
        for group in self.param_groups:
            (parameter,), name = group["params"], group["name"]
            moved = part(parameter.detach()) - before[name]
            last = velocity.get(name, torch.zeros_like(moved))
            gradient = part(parameter.grad)
            power = gradient.square().sum()
            if power > 0:
                seen[name].append(float(((0.9 * last - moved) * gradient).sum() / power))
            velocity[name] = moved
        return loss

    monkeypatch.setattr(CaffeSGD, "step", step)
    return seen


@pytest.mark.parametrize("configuration", [*reversed(LAYERS), "scratch"])
def test_the_learning_rates_are_those_of_table_two(
    compose_config, source, tmp_path, monkeypatch, configuration
):
    small = [word for word in SMALL if "natural" not in word and "texture" not in word]
    depth = [
        "+experiment=layerwise", f"transfer.tune_from={configuration}",
        "domain/natural=pretrained", f"domain.natural.weights={source}",
    ]  # fmt: skip
    chosen = ["+experiment=layerwise_scratch"] if configuration == "scratch" else depth
    run = ChainRunner(
        validate_config(
            compose_config(
                *chosen, *small, f"paths.outputs={tmp_path}", f"recipe.epochs={EPOCHS}",
                f"recipe.batch_size={BATCH}", "model.initialisation=kaiming", "model.dropout=0",
            )
        )
    )  # fmt: skip
    seen = record_rates(monkeypatch)
    record = read_json(run.run() / "metrics.json")["stages"][-1]
    steps = -(-record["num_train"] // BATCH)
    names = [f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]
    for name in names:
        if table_two(configuration, name, 0) is None:
            assert name not in seen
            assert name in record["frozen"]
            continue
        assert len(seen[name]) == EPOCHS * steps
        for i, rate in enumerate(seen[name]):
            # The tolerance is due to rounding: float32 weights keep few digits of a small step.
            expected = table_two(configuration, name, i // steps)
            assert rate == pytest.approx(expected, rel=0.02), (name, i)
    assert record["reinitialised"] == ([] if configuration == "scratch" else names[-2:])


@pytest.mark.parametrize("fused", [False, True])
def test_past_steps_keep_their_rate_when_the_schedule_lowers_it(fused):
    random = torch.Generator().manual_seed(0)
    weights = torch.randn(5, dtype=torch.float64, generator=random).requires_grad_()
    optimizer = CaffeSGD([weights], lr=0.1, momentum=0.9, fused=fused)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    expected, velocity = weights.detach().clone(), torch.zeros(5, dtype=torch.float64)
    for epoch in range(4):
        for _ in range(3):
            weights.grad = torch.randn(5, dtype=torch.float64, generator=random)
            velocity = 0.9 * velocity - 0.5**epoch * 0.1 * weights.grad
            expected += velocity
            optimizer.step()
            assert torch.allclose(weights.detach(), expected, rtol=1e-12, atol=0)
        schedule.step()
        saved = optimizer.state_dict()
        optimizer = CaffeSGD([weights], lr=0.1, momentum=0.9, fused=fused)
        optimizer.load_state_dict(saved)  # a resumed training continues as without the interruption
        schedule.optimizer = optimizer


def test_runs_at_every_depth_of_a_condition_share_their_source_stages(start, tmp_path):
    def keys(*overrides):
        run = start(tmp_path, "+experiment=layerwise", *overrides)
        return run.config.condition, run.stages[0].key, run.folder.name

    chain = "chain=[natural,texture,target]"
    one, other = keys("transfer.tune_from=fc8"), keys("transfer.tune_from=conv3")
    two_stage = keys("transfer.tune_from=fc8", chain)
    assert [one[0], other[0], two_stage[0]] == ["natural", "natural", "two_stage"]
    assert one[1] == other[1] == two_stage[1]
    assert len({one[2], other[2], two_stage[2]}) == 3
