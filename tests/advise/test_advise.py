"""The advice follows the features, divides no patient, and never sees the test set."""

import json
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import recall_score

from conftest import SMALL
from stagetransfer.advise import advise, find_candidates
from stagetransfer.advise import candidates as rooms
from stagetransfer.advise.advice import RATIOS
from stagetransfer.advise.block_features import (
    PROBABILITIES,
    block_features,
    gradient_norms,
)
from stagetransfer.advise.candidates import Candidate, check_words
from stagetransfer.advise.fine_tuned import cka_to_own, own_networks
from stagetransfer.advise.outcomes import read_finished
from stagetransfer.advise.probe import DIMENSIONS, divide, probe, reduced
from stagetransfer.cli import app
from stagetransfer.config.compose import compose_settings
from stagetransfer.config.identity import stage_identity
from stagetransfer.errors import UserError
from stagetransfer.models import build_backbone
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.stage_data import stage_data
from stagetransfer.runs.run import LEARNED

CLASSES = ("a", "b", "c")
RANDOM = np.random.default_rng(0)
LABELS = np.arange(180) % 3
GROUPS = [f"p{i // 6}" for i in range(180)]


class Network:
    blocks = ("conv1", "conv2", "head")


def features(*strengths, seed=0):
    """Features of each block that know the class so well, and probabilities of four classes."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(3, 20))
    found = {
        block: (random.normal(size=(180, 20)) + strength * centres[LABELS]).astype(np.float32)
        for block, strength in zip(Network.blocks, strengths, strict=False)
    }
    return found | {PROBABILITIES: random.dirichlet(np.ones(4), 180).astype(np.float32)}


def ranked(**strengths):
    candidates = [
        Candidate(name, index, (Network(), Network()), (f"chain=[{name},target]",))
        for index, name in enumerate(strengths)
    ]
    found = {name: [features(*of, seed=seed) for seed in (1, 2)] for name, of in strengths.items()}
    return advise(candidates, found, divide(LABELS, GROUPS, CLASSES), GROUPS)


def test_the_best_features_come_first_and_say_where_to_tune():
    found = ranked(random=(0, 0), weak=(0.1, 0.2), strong=(1.2, 0.3))
    first = found.ranking[0]
    assert first.candidate.name == "strong"
    assert (first.block, first.tune_from) == ("conv1", "conv2")
    assert 0 < first.gain.low < first.gain.estimate < first.gain.high
    assert [one.candidate.name for one in found.ranking][-1] in ("random", "weak")
    assert found.sentence.startswith("Take strong and tune from conv2: its probe gains +")
    assert list(first.by_ratio) == list(RATIOS)
    assert first.by_ratio[0.2] < first.by_ratio[1.0]
    table = found.table()
    assert len(table) == 3
    assert {"LogME", "NLEEP", "H-score", "GBC", "TransRate", "PARC", "LEEP"} <= {*table.columns}


def test_without_a_difference_nothing_is_recommended():
    found = ranked(random=(1, 1), other=(1, 1))
    assert found.sentence.startswith("No candidate is detectably better than random weights")


def test_of_equal_candidates_the_cheapest_is_named():
    found = ranked(random=(0, 0), cheap=(0.59, 0), dear=(0.6, 0))
    assert [one.candidate.name for one in found.ranking] == ["dear", "cheap", "random"]
    assert "but cheap does not differ detectably from it" in found.sentence
    assert found.sentence.endswith(
        "Of these, cheap needs the fewest trained stages: tune it from conv2."
    )


def test_probes_are_those_of_scikit_learn_and_divide_no_patient():
    divisions = divide(LABELS, GROUPS, CLASSES)
    for folds in divisions.folds:
        assert pd.Series(folds).groupby(GROUPS).nunique().max() == 1
    kept = reduced(features(1.0)["conv1"])
    p = probe([kept], divisions, 1.0)
    assert p.shape == (3, 180, 3)
    assert np.allclose(p.sum(2), 1)
    # Features that only tell patients apart say nothing about other patients.
    names = np.unique(GROUPS, return_inverse=True)[1]
    of_patients = np.eye(30, dtype=np.float32)[names]
    recall = recall_score(LABELS, probe([reduced(of_patients)], divisions, 1.0)[0].argmax(1),
                          average="macro")  # fmt: skip
    assert recall < 0.5


def test_patients_of_a_single_class_member():
    groups = ["one" if label == 2 else f"p{i}" for i, label in enumerate(LABELS)]
    with pytest.raises(UserError, match="one patient only"):
        divide(LABELS, groups, CLASSES)


@pytest.mark.parametrize("shape", [(50, 300), (200, 100), (40, 8)])
def test_reduced_features_are_principal_components(shape):
    f = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    kept = reduced(f)
    assert kept.shape == (shape[0], min(DIMENSIONS, *shape))
    assert kept.var(0).mean() == pytest.approx(1)
    if shape[1] > DIMENSIONS:
        scaled = (f - f.mean(0)) / f.std(0)
        u, s, _ = np.linalg.svd(scaled.astype(float), full_matrices=False)
        expected = (u * s)[:, :DIMENSIONS]
        wanted, found = expected @ expected.T, kept @ kept.T
        assert np.allclose(found / np.trace(found), wanted / np.trace(wanted), atol=1e-5)


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["stagetransfer", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return int(ended.value.code or 0), capsys.readouterr()


def test_the_command_does_not_look_at_the_test_set(tmp_path, monkeypatch, capsys):
    root, outputs = tmp_path / "set", tmp_path / "outputs"
    for split, count in (("train", 16), ("test", 4)):
        for c in range(3):
            folder = root / split / CLASSES[c]
            folder.mkdir(parents=True)
            for i in range(count):
                noise = RANDOM.normal(80 + 40 * c, 20 + 8 * c, (32, 32)).clip(0, 255)
                Image.fromarray(noise.astype(np.uint8)).save(folder / f"{i:02d}.png")
    small = [word for word in SMALL if not word.startswith("+domain.target")]
    source = [*small, "recipe.epochs=1", f"paths.outputs={outputs}"]
    source += ["++stage.texture.require_learning=false"]
    ChainRunner(compose_settings(["chain=[texture]", *source])).run()
    target = ["domain/target=folder", f"domain.target.root={root}", *small]
    target.append(f"paths.outputs={outputs}")

    def table():
        code, shown = run(monkeypatch, capsys, "advise", *target)
        assert code == 0, shown.err
        assert "features  texture" in shown.out
        return pd.read_csv(outputs / "advise" / "tables" / "advice.csv")

    before = table()
    assert "CKA" not in before  # there is no run from scratch
    assert "feature utility" in before  # not defined where all classes are far enough apart
    assert set(before["candidate"]) == {"random", "texture"}
    files = list((outputs / "advise" / "features").glob("*.npz"))
    # Features and gradients of three random networks and a stage; the source's own images.
    assert len(files) == 9
    times = {file: file.stat().st_mtime_ns for file in files}
    for file in (root / "test").rglob("*.png"):
        Image.new("L", (32, 32), int(RANDOM.integers(256))).save(file)
    pd.testing.assert_frame_equal(table(), before)
    assert {file: file.stat().st_mtime_ns for file in files} == times  # they were read
    report = (outputs / "advise" / "report.md").read_text()
    commands = [shlex.split(line[2:]) for line in report.splitlines() if "train.py" in line]
    assert ["+experiment=scratch" in words for words in commands] == [True, False]
    assert ["chain=[texture,target]" in words for words in commands] == [False, True]
    for words in commands:
        assert compose_settings(words[2:]).chain[-1] == "target"
    assert "the patients are unknown" in report
    code, shown = run(monkeypatch, capsys, "advise", *target, "--sources", tmp_path / "nothing")
    assert (code, shown.err.count("\n")) == (2, 1)

    # A stage with another seed belongs to the same candidate; one with other settings does not.
    (stage,) = (path.parent for path in (outputs / "stages").glob("*/DONE"))
    for key, change in (("b" * 16, {"seed": 5}), ("c" * 16, {"recipe": {}})):
        shutil.copytree(stage, stage.with_name(key))
        record = json.loads((stage / "stage.json").read_text())
        record["identity"] |= change
        if key[0] == "c":
            record["stages"][-1]["health"]["verdict"] = "constant output"
        (stage.with_name(key) / "stage.json").write_text(json.dumps(record))
    found, doubts = find_candidates([str(outputs)], compose_settings(target).model)
    names = {one.name: len(one.networks) for one in found}
    assert sorted(names.values()) == [1, 2, 3]  # of these, three are random
    assert "texture (cccccccc)" in names
    assert doubts == ["texture (cccccccc) did not learn: constant output"]
    # Two files of one name, one of them given twice, are two candidates.
    files = [shutil.copytree(stage, tmp_path / name) / "model.ckpt" for name in ("one", "other")]
    given = [str(files[0]), str(files[1]), f"{files[0].parent}/../one/model.ckpt"]
    found, _ = find_candidates(given, compose_settings(target).model)
    assert [one.name for one in found] == ["random", *(f"model.ckpt ({file})" for file in files)]
    code, shown = run(monkeypatch, capsys, "advise", *target, "--budget", "1s")  # one real training
    assert code == 0, shown.err
    trained = pd.read_csv(outputs / "advise" / "tables" / "trainings.csv")
    advice = json.loads((outputs / "advise" / "advice.json").read_text())
    assert list(trained["candidate"]) == [advice["pick"]]
    assert len(list((outputs / "runs").glob("*/metrics.json"))) == 1
    # Advice without a budget has no table of trainings, also where an earlier one had.
    assert run(monkeypatch, capsys, "advise", *target)[0] == 0
    assert not (outputs / "advise" / "tables" / "trainings.csv").exists()

    # The target's own networks are those from scratch that learned from all of its images.
    runner = ChainRunner(compose_settings(["chain=[target]", *target]))
    runner.run()
    model, data = runner.config.model, runner.stages[-1].data
    finished = [replace(one, verdict=LEARNED) for one in read_finished([outputs])]
    assert [len(one.chain) for one in finished].count(1) == 1
    (own,), lines = own_networks(finished, data, model)
    assert lines == []
    of_own = block_features(own, data, tmp_path / "kept")
    blocks = own.blocks[:-1]
    same = cka_to_own({"own": [of_own], "none": [of_own, of_own]}, [of_own], blocks)
    assert same == pytest.approx({"own": 1, "none": 1})
    assert cka_to_own({"own": [of_own]}, [], blocks) == {}
    other = replace(model, dropout=0.1)
    for changed in (
        [replace(one, ratio=0.5) for one in finished],
        [replace(one, ids=one.ids[1:]) for one in finished],
        [replace(one, verdict="diverged") for one in finished],
        [replace(one, config={**one.config, "teacher": ["a"]}) for one in finished],
    ):
        assert own_networks(changed, data, model) == ([], [])
    assert own_networks(finished, data, other) == ([], [])
    (best,) = (one.folder / "checkpoints" / "best.ckpt" for one in finished if len(one.chain) == 1)
    best.unlink()
    networks, lines = own_networks(finished, data, model)
    assert (networks, len(lines)) == ([], 1)


def test_the_words_name_the_domain_whose_weights_are_published(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "_network", lambda source, model: Network())
    stages = [
        {"name": "texture", "key": "p", "epochs": 0, "weights": "torchvision"},
        {"name": "natural", "key": "k", "epochs": 1, "fingerprint": "f"},
    ]
    (tmp_path / "stages" / "k").mkdir(parents=True)
    (tmp_path / "stages" / "k" / "DONE").touch()
    (tmp_path / "stages" / "k" / "stage.json").write_text(json.dumps({"stages": stages}))
    (found,) = rooms._stages(tmp_path, None)[0].values()
    assert found.words == (
        "chain=[texture,natural,target]",
        "domain/texture=pretrained",
        "domain.texture.weights=torchvision",
    )


def store(outputs, *words):
    """Put the first stage that these words lead to into the store, untrained; return its key."""
    config = compose_settings([*SMALL, *words, f"paths.outputs={outputs}"])
    runner = ChainRunner(config)
    one = runner.stages[0]
    identity = stage_identity(runner.config, one.stage, one.data.identity())
    entry = {"name": "texture", "key": one.key, "epochs": 1, "fingerprint": one.data.fingerprint}
    folder = runner.store.path(one.key)
    folder.mkdir(parents=True)
    (folder / "DONE").touch()
    (folder / "stage.json").write_text(json.dumps({"stages": [entry], "identity": identity}))
    return one.key


def test_words_are_kept_only_if_they_lead_to_the_stage_that_was_probed(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "_network", lambda source, model: Network())
    chain, outputs = "chain=[texture,target]", tmp_path / "outputs"
    usual, other = store(outputs, chain), store(outputs, chain, "recipe.batch_size=8")

    def kept(*words, source=outputs):
        """The keys of the stages whose words are kept, and the number of doubts."""
        given = [*SMALL, f"paths.outputs={outputs}", *words]
        found, doubts = check_words(
            find_candidates([str(source)], compose_settings(SMALL).model)[0], given
        )
        return [one.keys for one in found if one.words], len(doubts)

    assert kept() == ([(usual,)], 1)
    assert kept("recipe.batch_size=8") == ([(other,)], 1)
    assert kept("recipe.batch_size=4") == ([], 2)
    # A stage in another outputs folder, and one with another seed, would be trained again.
    far = tmp_path / "far"
    seeds = sorted(store(far, chain, f"source_seed={seed}") for seed in (5, 6))
    assert kept("source_seed=5", source=far) == ([], 1)
    assert kept("source_seed=5", f"paths.outputs={far}", source=far) == ([tuple(seeds)], 0)
    assert kept("source_seed=7", f"paths.outputs={far}", source=far) == ([], 1)


def test_words_on_images_that_weights_replace_do_not_count(tmp_path):
    files = [str(tmp_path / name) for name in ("weights.pt", "lost.pt")]
    network = build_backbone(compose_settings(SMALL).model, 2)
    torch.save(network.state(), files[0])
    words = [("chain=[natural,target]", *rooms._weights_words(file)) for file in files]
    given = [Candidate(file, 0, (Network(),), of) for file, of in zip(files, words, strict=True)]
    found, (doubt,) = check_words([Candidate("random", 0, (Network(),)), *given], SMALL)
    assert [one.words for one in found] == [(), words[0], ()]
    assert files[1] in doubt


PATHS = ("/tmp/Müller/w.pt", "/tmp/w (1).pt", "/tmp/o'neil/w=1.pt", "/a,b.pt", "/b\\'s.pt", "12")


@pytest.mark.parametrize("path", PATHS)
def test_words_for_weights_with_characters_that_need_quotes(path):
    words = ["chain=[natural,target]", *rooms._weights_words(path)]
    assert compose_settings(words).stages[0].domain["weights"] == path
    assert rooms._weights_words("/data/w.pt")[1] == "domain.natural.weights=/data/w.pt"


def test_the_gradients_are_those_of_the_triplet_loss(tmp_path):
    config = compose_settings(["chain=[target]", *SMALL])
    data = stage_data(config, config.stages[-1])
    network = build_backbone(config.model, 3)
    network.initialise("kaiming", 0)
    network.eval()
    found = gradient_norms(network, data, tmp_path)
    again = gradient_norms(network, data, tmp_path)  # from the file
    assert all(np.array_equal(found[name], again[name]) for name in ("first", "second"))
    places = np.random.default_rng(0).permutation(data.count("train"))[:64]
    y = data.labels("train")[torch.from_numpy(places)]
    embeddings, _ = network.double().embed(data.inputs("train", places.tolist()).double())
    apart = torch.cdist(*2 * [torch.nn.functional.normalize(embeddings)])
    losses = (apart[:, :, None] - apart[:, None] + 0.05).relu()
    same = y[:, None] == y
    losses = losses[(same & ~torch.eye(len(y), dtype=bool))[:, :, None] & ~same[:, None]]
    (losses.sum() / (losses > 0).sum()).backward()
    for layer, name in (("conv1", "first"), ("conv2", "second")):
        norm = float(network.net.get_parameter(f"{layer}.weight").grad.norm())
        assert found[name][0] == pytest.approx(norm, rel=1e-3)
