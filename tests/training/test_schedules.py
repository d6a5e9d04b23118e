"""Patience, LP-FT, learning rates that decay by depth, and the search for the best depth."""

import pytest
import torch

from stagetransfer.config.validate import validate_config
from stagetransfer.files import read_json
from stagetransfer.models import InputSpec, alexnet_backbone
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.training import block_rates
from stagetransfer.training.callbacks import MeasureSpeed, SeedEpoch

PATIENT = (
    "+experiment=scratch", "recipe.epochs=6", "recipe.patience=1", "recipe.monitor=accuracy",
    "recipe.optimizer.lr=1e-9", "recipe.scheduler=null",
)  # fmt: skip


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_patience_ends_a_stage_even_if_it_was_killed_at_its_end(start, tmp_path, monkeypatch, at):
    """With almost no learning rate nothing improves, so the second epoch is always the last."""
    whole = start(tmp_path / "whole", *PATIENT).run()
    (stage,) = read_json(whole / "metrics.json")["stages"]
    assert (stage["epochs"], stage["best_epoch"]) == (2, 1)

    seed_epoch = SeedEpoch.on_train_epoch_start

    def kill_in_second_epoch(self, trainer, module):
        seed_epoch(self, trainer, module)
        if trainer.current_epoch == 1:
            raise Killed

    def kill(self, trainer, module):
        raise Killed

    with monkeypatch.context() as patch:
        if at == 0:
            patch.setattr(SeedEpoch, "on_train_epoch_start", kill_in_second_epoch)
        else:
            patch.setattr(MeasureSpeed, "on_fit_end", kill)
        with pytest.raises(Killed):
            start(tmp_path / "broken", *PATIENT).run()
    resumed = start(tmp_path / "broken", *PATIENT).run()
    (again,) = read_json(resumed / "metrics.json")["stages"]
    assert (again["epochs"], again["best_epoch"]) == (2, 1)
    assert again["validation"] == stage["validation"]
    assert (resumed / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()


def test_linear_probe_trains_the_new_layers_alone_and_then_all(start, tmp_path, monkeypatch):
    seen = []
    original = SeedEpoch.on_train_epoch_start

    def spy(self, trainer, module):
        original(self, trainer, module)
        state = {name: tensor.clone() for name, tensor in module.network.state().items()}
        seen.append(state)

    monkeypatch.setattr(SeedEpoch, "on_train_epoch_start", spy)
    start(
        tmp_path, "+experiment=natural", "transfer=lpft", "transfer.probe_epochs=1",
        "transfer.tune_from=conv2", "recipe.epochs=3", "stage.natural.recipe.epochs=1",
    ).run()  # fmt: skip

    def changed(one, other):
        return {name.split(".")[0] for name, x in one.items() if not torch.equal(x, other[name])}

    _, *target_epochs = seen
    assert changed(target_epochs[0], target_epochs[1]) == {"fc8"}
    assert changed(target_epochs[1], target_epochs[2]) == {*LAYERS[1:]}


def test_buffers_stay_while_the_new_layers_are_trained_alone(start, tmp_path, monkeypatch):
    seen = []
    original = SeedEpoch.on_train_epoch_start

    def spy(self, trainer, module):
        original(self, trainer, module)
        buffers = {name: value.clone() for name, value in module.network.net.named_buffers()}
        means = {name: value for name, value in buffers.items() if name.endswith("running_mean")}
        seen.append(means)

    monkeypatch.setattr(SeedEpoch, "on_train_epoch_start", spy)
    start(
        tmp_path, "+experiment=natural", "model=timm", "model.name=resnet10t",
        "model.input_size=64", "transfer=lpft", "transfer.probe_epochs=1",
        "transfer.tune_from=layer1", "recipe.epochs=3", "++stage.natural.recipe.epochs=1",
    ).run()  # fmt: skip
    _, first, second, third = seen
    same = {name for name in first if torch.equal(first[name], second[name])}
    assert same == {*first}
    moved = {name for name in first if not torch.equal(second[name], third[name])}
    assert moved == {name for name in first if name.startswith("layer")}  # the stem is frozen


def test_rate_decay_lowers_the_learning_rate_from_fc8_to_conv1(compose_config):
    settings = validate_config(compose_config("+experiment=natural", "transfer=rate_decay"))
    network = alexnet_backbone(2, input=InputSpec(67))
    rates = block_rates(settings.stages[-1].transfer, network)
    assert [rates[layer] for layer in LAYERS] == pytest.approx([0.9**k for k in range(7, -1, -1)])


DEPTHS = (
    "+experiment=best_depth", "transfer.search=[fc8,conv4]", "recipe.epochs=2",
    "stage.natural.recipe.epochs=1",
)  # fmt: skip


def test_best_depth_is_chosen_on_validation_data_and_only_it_is_tested(
    start, tmp_path, monkeypatch
):
    from stagetransfer.pipeline import chain, search

    tested, trained = [], []
    evaluate, train = chain.evaluate, search.train

    def spy_on_evaluate(module, *arguments, **options):
        if options.get("split", "test") == "test":
            tested.append(module._frozen)
        return evaluate(module, *arguments, **options)

    def spy_on_train(prepared, *arguments, **options):
        trained.append(prepared.stage.transfer.tune_from)
        if trained == ["fc8", "conv4"]:
            raise Killed
        return train(prepared, *arguments, **options)

    monkeypatch.setattr(chain, "evaluate", spy_on_evaluate)
    monkeypatch.setattr(search, "train", spy_on_train)
    with pytest.raises(Killed):
        start(tmp_path, *DEPTHS).run()
    run = start(tmp_path, *DEPTHS).run()
    assert trained == ["fc8", "conv4", "conv4"]  # a finished depth is not trained again
    assert len(tested) == 1
    metrics = read_json(run / "metrics.json")
    found = metrics["search"]
    assert list(found["validation"]) == ["fc8", "conv4"]
    assert found["monitor"] == "auroc"
    assert found["chosen"] == max(found["validation"], key=found["validation"].get)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt"}
    monkeypatch.undo()
    alone = start(
        tmp_path, "+experiment=layerwise", f"transfer.tune_from={found['chosen']}", *DEPTHS[2:]
    ).run()
    assert (alone / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    single = read_json(alone / "metrics.json")["stages"][-1]
    assert single["validation"]["auroc"] == found["validation"][found["chosen"]]
    assert single["frozen"] == metrics["stages"][-1]["frozen"]
