"""Make run folders as stagetransfer.runs.writer writes them, without any training."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from stagetransfer.runs.gather import Gathered, gather_data_sets
from stagetransfer.statistics import classification_metrics

CLASSES = ("CON", "GGO", "NOR")
CHAINS = {
    "scratch": ("target",),
    "natural": ("natural", "target"),
    "texture": ("texture", "target"),
    "two_stage": ("natural", "texture", "target"),
}
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
SKILL = {"scratch": 1.0, "natural": 1.6, "texture": 1.2, "two_stage": 1.8}


def make_run(
    outputs: Path,
    condition: str = "scratch",
    ratio: float = 1.0,
    seed: int = 0,
    *,
    chain: tuple[str, ...] | None = None,
    key: str = "",
    epochs: int = 9,
    classes: tuple[str, ...] = CLASSES,
    per_class: int = 30,
    groups_per_class: int | None = 12,
    test_set: str = "test",
    fingerprint: str = "f00d",
    by_class: bool = True,
    source_seed: int = 0,
    finished: bool = True,
    failure: str | None = None,
    tune_from: str | None = None,
    mode: str = "full",
    search: tuple[str, ...] = (),
    monitor: str = "cross_entropy",
    skill: float | None = None,
    validation: dict[str, float] | None = None,
    fold: int | None = None,
    folds: int = 3,
    digest: str = "d1ce",
    dead: bool = False,
    health: dict[str, object] | None = None,
    source_health: dict[str, object] | None = None,
    weights: str | None = None,
    search_rates: dict[str, object] | None = None,
    root: str | None = None,
) -> Path:
    """Write a run folder under outputs/runs and return it.

    The predictions are better for better conditions and for more training data.

    Args:
        skill: quality of the predictions; None: that of the condition.
        validation: validation metrics of the target stage.
        dead: predict the first class for every image.
        health: what the target stage records about its training, beside the defaults; None: the
            run of an earlier version, which recorded nothing.
        source_health: the same for the source stages.
        weights: a file of published weights in place of the first stage.
        root: folder of the target's images.
        fold: test on the groups whose number modulo `folds` is this; None: on all groups.
    """
    chain = chain or CHAINS[condition]
    place = f"{condition}{tune_from}{mode}{search}{ratio}{seed}{fold}"
    key = key or sha256(place.encode()).hexdigest()[:8]
    folder = outputs / "runs" / f"{condition}-r{ratio:g}-s{seed}-{key}"
    folder.mkdir(parents=True)
    config = {
        "condition": condition,
        "chain": list(chain),
        "ratio": ratio,
        "seed": seed,
        "source_seed": source_seed,
        "recipe": {"epochs": epochs, "optimizer": {"lr": 0.01}, "monitor": monitor},
        "transfer": {
            "reinitialise": ["fc8"],
            "mode": mode,
            "tune_from": tune_from,
            "search": list(search),
            "rates": [],
        },
        "paths": {"outputs": str(outputs)},
        "domain": {name: {"workers": seed, "split_seed": 0} for name in chain},
    }
    if root is not None:
        config["domain"][chain[-1]]["root"] = root
    if fold is not None:
        config["domain"][chain[-1]] |= {"split_file": f"/{seed}/folds.csv", "fold": fold}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    if failure is not None:
        (folder / "failure.txt").write_text(failure)
    if not finished:
        return folder
    labels = np.repeat(np.arange(len(classes)), per_class)
    name = int.from_bytes(condition.encode()) % 1000
    random = np.random.default_rng([seed, name, round(ratio * 100)])
    hardness = np.random.default_rng(5).normal(size=(len(labels), len(classes)))
    skill = (skill or SKILL.get(condition, 1.4)) * (0.6 + ratio)
    scores = 0.8 * hardness + 0.6 * random.normal(size=hardness.shape)
    scores[np.arange(len(labels)), labels] += skill
    if dead:
        scores = np.tile([1.0, *[0.0] * (len(classes) - 1)], (len(labels), 1))
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    number = [i % per_class for i in range(len(labels))]
    table = pd.DataFrame(
        {
            "id": [f"{test_set}/{classes[c]}/{i:03d}" for c, i in zip(labels, number, strict=True)],
            "group": [
                f"p{classes[c]}{i % groups_per_class}" if groups_per_class else ""
                for c, i in zip(labels, number, strict=True)
            ],
            "label": [classes[c] for c in labels],
            "prediction": [classes[c] for c in probabilities.argmax(1)],
            **{f"p_{name}": probabilities[:, c] for c, name in enumerate(classes)},
        }
    )
    if fold is not None:
        assert groups_per_class
        tested = np.array(number) % groups_per_class % folds == fold
        table, labels, probabilities = table[tested], labels[tested], probabilities[tested]
    table.to_csv(folder / "predictions.csv", index=False)
    result = classification_metrics(labels, probabilities, classes)
    train = {name: round(ratio * 40 * (c + 1)) for c, name in enumerate(classes)}
    stages = [
        {
            "name": stage,
            "key": f"source-{'-'.join(chain[: i + 1])}" if i + 1 < len(chain) else folder.name,
            "reused": i + 1 < len(chain) and seed > 0,
            "epochs": epochs,
            "seconds": 100.0,
            "images_per_second": 50.0,
            "fingerprint": fingerprint if i + 1 == len(chain) else stage,
        }
        for i, stage in enumerate(chain)
    ]
    if len(chain) > 1:
        first = "fc8" if mode == "frozen" else tune_from or "conv1"
        frozen = LAYERS[: LAYERS.index(first)]
        stages[-1]["frozen"] = [
            f"{layer}.{kind}" for layer in frozen for kind in ("weight", "bias")
        ]
    if validation is not None:
        stages[-1]["validation"] = validation
    if weights is not None:
        stages[0]["weights"] = weights
    for stage in stages:
        given = health if stage is stages[-1] else source_health
        if given is not None and "weights" not in stage:
            stage["health"] = made_health(**given)
            recall = stage["health"]["recall"]
            stage["validation"] = {"accuracy": recall, "recall": recall, **(validation or {})}
    metrics = {
        "condition": condition,
        "chain": list(chain),
        "ratio": ratio,
        "seed": seed,
        "source_seed": source_seed,
        "per_class": result.pop("per_class"),
        "confusion": result.pop("confusion"),
        "test": result,
        "classes": list(classes),
        "num_train": sum(train.values()),
        **({"num_train_per_class": train} if by_class else {}),
        "num_test": len(labels),
        "splits": None if fold is None else {"digest": digest, "fold": fold, "folds": folds},
        "blocks": {layer: [f"{layer}.weight", f"{layer}.bias"] for layer in LAYERS},
        "stages": stages,
        **({} if search_rates is None else {"search_rates": search_rates}),
        "versions": {"torch": "2.15.0"},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def made_health(**given: object) -> dict[str, object]:
    """Return the record of a training that learned three classes, changed by `given`."""
    verdict = given.get("verdict", "learned")
    return {
        "verdict": verdict,
        "learned": verdict == "learned",
        "recall": 0.8,
        "low": 0.7,
        "high": 0.9,
        "chance": 1 / 3,
        "still_improving": False,
        "few_validation_images": False,
        "remarks": [],
        **given,
    }


def make_sweep(
    outputs: Path,
    conditions: tuple[str, ...] = tuple(CHAINS),
    ratios: tuple[float, ...] = (0.2, 0.6, 1.0),
    seeds: tuple[int, ...] = (0, 1, 2),
    **rest: object,
) -> Path:
    """Write all runs of a sweep and return the outputs folder."""
    for condition in conditions:
        for ratio in ratios:
            for seed in seeds:
                make_run(outputs, condition, ratio, seed, **rest)
    return outputs


def add_learning_curve(folder: Path, epochs: int = 3) -> None:
    """Write validation metrics of the target stage, in every tenth optimiser step."""
    rows = [
        {"validation/cross_entropy": 1 / (epoch + 1), "validation/accuracy": 0.5 + epoch / 10}
        for epoch in range(epochs)
    ]
    write_metrics_csv(folder, dict(zip(range(9, 10 * epochs, 10), rows, strict=True)))


def write_metrics_csv(
    folder: Path, by_step: dict[int, dict[str, float]], name: str = "metrics.csv", epoch: int = 0
) -> None:
    """Write the target stage's metrics as Lightning's CSVLogger does: one row per logging call.

    Args:
        by_step: validation metrics by optimiser step (from 0), one step per epoch.
        epoch: number of the first epoch, from 0.
    """
    chain = json.loads((folder / "metrics.json").read_text())["chain"]
    rows: list[dict[str, float]] = []
    for i, (step, values) in enumerate(by_step.items(), start=epoch):
        rows.append({"epoch": i, "step": step - 1, "train/cross_entropy": 2.0})
        rows.append({"epoch": i, "step": step, **values})
    file = folder / "logs" / f"{len(chain)}-{chain[-1]}" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(file, index=False)


def gather_runs(
    paths: list[Path], *, only: list[str] | tuple[str, ...] = (), conditions: tuple[str, ...] = ()
) -> Gathered:
    """Gather runs that are of one data set; the UserError if they cannot be compared."""
    found, errors, _ = gather_data_sets(paths, only=only, conditions=conditions)
    for error in errors.values():
        raise error
    (one,) = found
    return one
