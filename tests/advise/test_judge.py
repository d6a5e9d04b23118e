"""Advice is judged by finished runs of the same images and network, and by nothing else."""

import json
import math
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from made_runs import make_run
from stagetransfer.advise.judge import agreement, judgement, over_targets, read_judged
from stagetransfer.advise.outcomes import left_out, outcomes, prior, read_finished
from stagetransfer.cli.app import app
from stagetransfer.runs.reader import find_runs, read_runs

CANDIDATES = {"random": (0, 0.60), "natural": (1, 0.70), "natural → texture": (2, 0.80)}


def advice(folder, target, pick, recalls=None, network="None None None"):
    recalls = recalls or {name: recall for name, (_, recall) in CANDIDATES.items()}
    rows = [
        {
            "candidate": name,
            "stages_trained": CANDIDATES.get(name, [0])[0],
            "recall": value,
            "LogME": -value,
        }
        for name, value in recalls.items()
    ]
    folder.mkdir(parents=True)
    record = {"target": target, "network": network, "pick": pick, "scores": ["LogME"]}
    (folder / "advice.json").write_text(json.dumps({**record, "candidates": rows}))


@pytest.fixture
def outputs(tmp_path):
    for target, skills in (("aaaa", (0.5, 1.0, 2.0)), ("bbbb", (1.0, 2.0, 0.5))):
        for condition, skill in zip(("scratch", "natural", "two_stage"), skills, strict=True):
            for seed in (0, 1):
                make_run(
                    tmp_path, condition, seed=seed, fingerprint=target, skill=skill,
                    key=f"{target}{condition}{seed}",
                )  # fmt: skip
    return tmp_path


def runs_of(folder):
    return read_runs(find_runs([folder]))[0]


def test_outcomes_are_the_recalls_of_runs_with_all_images(outputs):
    make_run(outputs, "natural", ratio=0.5, fingerprint="aaaa")
    runs = runs_of(outputs)
    assert left_out(runs) == []
    found = outcomes(runs)
    assert len(found) == 12
    assert set(found["candidate"]) == {"random", "natural", "natural → texture"}
    run = next(one for one in runs if one.condition == "two_stage" and one.seed == 1)
    row = found[(found["target"] == run.fingerprint) & (found["candidate"] == "natural → texture")]
    assert row.set_index("seed")["recall"][1] == run.metrics["recall"]


def test_the_depth_with_the_best_validation_recall_counts(tmp_path):
    for depth, recall, skill in (("fc8", 0.9, 0.4), ("conv1", 0.5, 3.0)):
        make_run(
            tmp_path, "natural", tune_from=depth, skill=skill,
            health={"verdict": "learned", "recall": recall, "low": 0.4, "high": 1.0},
        )  # fmt: skip
    runs = {run.config["transfer.tune_from"]: run for run in runs_of(tmp_path)}
    assert runs["fc8"].metrics["recall"] < runs["conv1"].metrics["recall"]
    assert list(outcomes(list(runs.values()))["recall"]) == [runs["fc8"].metrics["recall"]]


def test_runs_with_worse_training_data_and_other_depths_are_not_mixed_in(tmp_path):
    clean = make_run(tmp_path, "natural", skill=1.0, validation={"recall": 0.8})
    for seed, change in enumerate(({"label_noise": 0.4}, {"long_tail": 0.2}, {"confounder": 0.9})):
        folder = make_run(tmp_path, "natural", seed=1 + seed, skill=0.1)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["domain"]["target"] |= change
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    frozen = make_run(tmp_path, "natural", mode="frozen", skill=0.1)
    runs = {run.name: run for run in runs_of(tmp_path)}
    assert runs[frozen.name].metrics["recall"] < runs[clean.name].metrics["recall"]
    health = {"recall": 0.8}, {"recall": 0.1}
    kept = [
        replace(runs[one.name], stages=(*runs[one.name].stages[:-1],
                                        {**runs[one.name].stages[-1], "health": of}))
        for one, of in zip((clean, frozen), health, strict=True)
    ]  # fmt: skip
    worse = [run for name, run in runs.items() if name not in (clean.name, frozen.name)]
    assert len(worse) == 3
    assert list(outcomes([*kept, *worse])["recall"]) == [runs[clean.name].metrics["recall"]]
    other = replace(kept[0], config={**kept[0].config, "model.name": "resnet50"})
    assert set(outcomes([kept[0], other])["network"]) == {"None None None", "None resnet50 None"}


def test_published_weights_are_candidates_by_their_own_name(tmp_path):
    make_run(tmp_path, "natural", weights="efficientnet-lite0")
    assert set(outcomes(runs_of(tmp_path))["candidate"]) == {"efficientnet-lite0 weights"}


def test_imported_runs_and_runs_with_teachers_are_no_outcome_of_their_chain(outputs):
    before = outcomes(runs_of(outputs))
    for number, change in enumerate(({"imported": True}, {"teacher": ["a", "b"]})):
        folder = make_run(outputs, "scratch", seed=7 + number, fingerprint="aaaa", skill=3.0)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump(config | change))
    runs = runs_of(outputs)
    pd.testing.assert_frame_equal(outcomes(runs), before)
    (line,) = left_out(runs)
    assert line.endswith(": 2")
    advice(outputs / "advise", "aaaa", "natural")
    assert read_judged([outputs])[1] == [line]


def test_the_prior_does_not_look_at_the_target():
    rows = [
        ("a", "n", "x", 0, 0.9), ("a", "n", "y", 0, 0.8), ("a", "n", "z", 0, 0.1),
        ("b", "n", "x", 0, 0.5), ("b", "n", "y", 0, 0.7), ("b", "n", "z", 0, 0.6),
        ("c", "n", "x", 0, 0.5),  # one candidate alone says nothing
    ]  # fmt: skip
    found = pd.DataFrame(rows, columns=["target", "network", "candidate", "seed", "recall"])
    assert dict(prior(found, "a")) == {"x": 0.0, "y": 1.0, "z": 0.5}
    assert dict(prior(found, "b")) == {"x": 1.0, "y": 0.5, "z": 0.0}
    assert dict(prior(found, "other")) == {"x": 0.5, "y": 0.75, "z": 0.25}


def test_a_folder_without_runs_has_no_prior(tmp_path, outputs):
    assert prior(outcomes(read_finished([tmp_path / "nothing"])), "aaaa").empty
    found = prior(outcomes(read_finished([outputs])), "aaaa").to_dict()
    assert found == {"natural": 1.0, "random": 0.5, "natural → texture": 0}


def test_agreement():
    truth = pd.Series({"a": 0.9, "b": 0.8, "c": 0.5})
    assert agreement(truth, pd.Series({"a": 3, "b": 2, "c": 1})) == pytest.approx((1, 0))
    tau, lost = agreement(truth, pd.Series({"a": 1, "b": 2, "c": 3}))
    assert (tau, lost) == pytest.approx((-1, 0.4))
    tau, lost = agreement(truth, pd.Series({"a": 1, "b": 1, "c": 1}))
    assert math.isnan(tau)
    assert lost == pytest.approx(0.9 - 2.2 / 3)
    assert agreement(truth, pd.Series({"b": 1.0}))[1] == pytest.approx(0.1)


def test_intervals_over_targets():
    found = over_targets([0.0, 1.0, 2.0, 3.0])
    assert found.low < found.estimate == 1.5 < found.high
    assert not found.why
    for values in ([0.3], [0.5, 0.5]):  # they do not show how targets differ
        found = over_targets(values)
        assert found.estimate == values[0]
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert found.why
    assert math.isnan(over_targets([]).estimate)


def test_the_advice_is_judged_target_by_target(outputs):
    advice(outputs / "advise-a", "aaaa", "natural → texture")
    advice(outputs / "advise-b", "bbbb", "natural → texture")
    advice(outputs / "advise-c", "cccc", "natural")  # it has no runs
    advice(
        outputs / "advise-d", "aaaa", "natural", network="timm resnet18 paper"
    )  # of another network
    judged, lines = read_judged([outputs])
    assert len(judged) == 2
    assert [line.split(":")[0].rpartition("/")[0][-8:] for line in lines] == [
        "advise-c",
        "advise-d",
    ]
    found = judgement(judged).set_index("ranked_by")
    assert found.loc["advice", "targets"] == 2
    # Right on the first target; on the second, the pick is the worst of the three.
    truth = judged[1].truth
    lost = 100 * (truth["natural"] - truth["natural → texture"])
    assert found.loc["advice", "lost"] == pytest.approx(lost / 2)
    assert found.loc["advice", "near"] == 0.5
    assert judged[0].spread >= 0
    assert agreement(judged[0].truth, judged[0].ranks["advice"])[0] == pytest.approx(1)
    assert agreement(judged[0].truth, judged[0].ranks["LogME"])[0] == pytest.approx(-1)
    # Each target's prior is the order on the other one.
    assert judged[0].ranks["prior"].idxmax() == "natural"
    assert judged[1].ranks["prior"].idxmax() == "natural → texture"


def test_several_advice_for_one_target_count_as_their_mean(outputs):
    right, wrong = "natural → texture", "random"
    for number, pick in enumerate((right, wrong)):
        advice(outputs / f"advise-{number}", "aaaa", pick)
    judged, _ = read_judged([outputs])
    row = judgement(judged).set_index("ranked_by").loc["advice"]
    truth = judged[0].truth
    assert row["targets"] == 1
    assert row["lost"] == pytest.approx(100 * (truth[right] - truth[wrong]) / 2)
    assert math.isnan(row["lost_low"])
    assert row["lost_why"]


def test_advice_whose_pick_has_no_run_is_not_judged(outputs):
    recalls = {"random": 0.6, "natural": 0.7, "lost": 0.9}
    advice(outputs / "advise", "aaaa", "lost", recalls)
    judged, (line,) = read_judged([outputs])
    assert judged == []
    assert "advise/advice.json" in line
    assert line.endswith("lost")


def test_files_of_the_user_are_no_published_weights(tmp_path):
    made = {"timm weights": "timm", "mine.pt": "/data/mine.pt"}
    for number, weights in enumerate(made.values()):
        make_run(tmp_path, "natural", seed=number, weights=weights, fingerprint="aaaa")
    advice(tmp_path / "advise", "aaaa", "mine.pt", dict.fromkeys(made, 0.7))
    ((one,), _) = read_judged([tmp_path])
    assert one.ranks["always published weights"].to_dict() == {"timm weights": 1, "mine.pt": 0}


def test_the_pick_comes_first_even_if_its_probe_does_not(outputs):
    advice(outputs / "advise", "bbbb", "natural")
    (one,), _ = read_judged([outputs])
    assert one.ranks["advice"].idxmax() == "natural"
    assert one.ranks["linear probe"].idxmax() == "natural → texture"


def command(*words):
    return CliRunner().invoke(app, ["advise", *map(str, words)])


def test_the_command_writes_the_table(outputs):
    advice(outputs / "advise", "aaaa", "natural → texture")
    done = command("--judge", outputs)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(outputs / "advise" / "judgement.csv").set_index("ranked_by")
    assert set(table.index) == {"advice", "linear probe", "prior", "at random", "LogME"}
    assert table.loc["advice", "lost"] == 0


WITHOUT_PICK = """{"target": "aaaa", "network": "x", "scores": [],
"candidates": [{"candidate": "a", "recall": 1, "stages_trained": 0}]}"""


@pytest.mark.parametrize(
    "broken", ["{}", '{"target": "aaaa", "blocks": [], "candidates": 3}', WITHOUT_PICK, "["]
)
def test_damaged_advice_is_named(outputs, broken):
    (outputs / "advise").mkdir()
    (outputs / "advise" / "advice.json").write_text(broken)
    done = command("--judge", outputs)
    assert "advice.json" in str(done.exception)
    assert type(done.exception).__name__ == "UserError"


def test_without_advice_or_runs_it_says_so(tmp_path, outputs):
    assert "advice.json" in str(command("--judge", outputs).exception)
    advice(outputs / "advise", "cccc", "natural")
    assert "two of its candidates" in str(command("--judge", outputs).exception)
    assert "--judge" in str(command("domain/target=csv", "--judge", outputs).exception)
    assert "--budget" in str(command("--judge", outputs, "--budget", "20m").exception)
