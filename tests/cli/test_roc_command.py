"""The commands `stagetransfer roc`, `froc` and `convergence`, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from made_runs import make_run, make_sweep, write_metrics_csv
from stagetransfer.cli.app import app
from stagetransfer.errors import UserError


def call(*arguments: object) -> str:
    """Return what the command prints; raise its UserError, if any."""
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    if result.exception is not None:
        raise result.exception
    return result.output


def written(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def add_auroc(folder: Path, values: dict[int, float]) -> None:
    """Write validation/auroc by optimiser step, counted from 0."""
    write_metrics_csv(folder, {step: {"validation/auroc": x} for step, x in values.items()})


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    return make_sweep(outputs, ("scratch", "two_stage"), ratios=(0.2, 1.0), seeds=(0, 1))


@pytest.fixture(scope="module")
def roc_output(sweep):
    arguments = ("--rate", 0.1, "--rate", 0.3, "--partial", 0.2, "--mcclish", "--count", 200)
    return sweep / "roc", call("roc", sweep, *arguments)


def test_roc_writes_tables_and_plots(roc_output):
    out, output = roc_output
    plots = {f"roc-r{r}.{kind}" for r in ("0.2", "1") for kind in ("png", "svg")}
    assert written(out) == {"figures.csv", "pairs.csv", "curves.csv", *plots}
    assert "r = 1, AUROC of GGO: two_stage - scratch: +" in output
    assert output.rstrip().endswith("figures.csv")


def test_roc_metrics_agree_with_the_predictions(sweep, roc_output):
    table = pd.read_csv(roc_output[0] / "figures.csv")
    assert len(table) == 2 * 2 * 3 * (4 + 1)
    expected: dict[tuple[str, float, str], list[tuple[float, float]]] = {}
    for folder in (sweep / "runs").iterdir():
        run = json.loads((folder / "metrics.json").read_text())
        images = pd.read_csv(folder / "predictions.csv").sample(frac=1, random_state=0)
        for name in run["classes"]:
            truth, scores = images["label"] == name, images[f"p_{name}"]
            areas = roc_auc_score(truth, scores), roc_auc_score(truth, scores, max_fpr=0.2)
            expected.setdefault((run["condition"], run["ratio"], name), []).append(areas)
    for (condition, ratio, name), areas in expected.items():
        place = (table["condition"] == condition) & (table["ratio"] == ratio)
        rows = table[place & (table["class"] == name)]
        whole, part = np.mean(areas, axis=0)
        assert rows[rows["figure"] == "auroc"]["estimate"].tolist() == pytest.approx([whole] * 2)
        of_part = rows[rows["figure"] == "mcclish_auroc_to_0.2"]
        assert of_part["estimate"].item() == pytest.approx(part)
        of_area = rows[rows["figure"] == "auroc"]
        of_area = of_area[of_area["estimate"] < 1]  # areas of 1 may show no spread
        assert (of_area["low"] < of_area["estimate"]).all()
        spread = rows[rows["low"].notna()]
        assert spread["high"].between(spread["low"], 1).all()
        assert (rows[rows["low"].isna()]["estimate"] == 1).all()


def test_roc_pairs_and_curves(roc_output):
    pairs, figures, curves = (
        pd.read_csv(roc_output[0] / f"{name}.csv") for name in ("pairs", "figures", "curves")
    )
    assert set(pairs["method"]) == {"bootstrap", "DeLong"}
    for row in pairs.to_dict("records"):
        same = (figures["class"] == row["class"]) & (figures["ratio"] == row["ratio"])
        same &= (figures["figure"] == row["figure"]) & (figures["method"] == row["method"])
        of = figures[same].set_index("condition")["estimate"]
        assert row["estimate"] == pytest.approx(of[row["a"]] - of[row["b"]])
        assert row["p_holm"] == row["p"]  # one pair at each ratio
    at = curves[np.isclose(curves["false_positive_rate"], 0.1)]
    read = figures[figures["figure"] == "sensitivity_at_0.1"]
    by = ["condition", "ratio", "class"]
    both = at.merge(read, on=by)
    assert len(both) == len(read) == 12
    assert both["sensitivity"].tolist() == pytest.approx(both["estimate"].tolist())


def test_roc_sentences_use_the_corrected_p_values_of_the_table(tmp_path):
    make_sweep(tmp_path, ratios=(1.0,), seeds=(0, 1))
    output = call("roc", tmp_path, "--count", 500).splitlines()
    pairs = pd.read_csv(tmp_path / "roc" / "pairs.csv")
    pairs = pairs[(pairs["figure"] == "auroc") & (pairs["method"] == "bootstrap")]
    assert (pairs["p_holm"] > pairs["p"]).any()
    for row in pairs.to_dict("records"):
        (line,) = (x for x in output if f"of {row['class']}: {row['a']} - {row['b']}: " in x)
        assert ("], evidence of" in line) == (row["p_holm"] <= 0.05)


def test_roc_of_the_conditions_asked_for_does_not_compare_failed_runs(tmp_path):
    make_sweep(tmp_path, ("natural", "two_stage"), ratios=(1.0,), seeds=(0, 1))
    for seed in (0, 1):
        make_run(tmp_path, "scratch", seed=seed, dead=True)
    output = call("roc", tmp_path, "--count", 100)
    failed = "not compared: scratch did not learn in 2 of 2 runs (constant output)"
    assert f"r = 1: natural - scratch: {failed}" in output
    pairs = pd.read_csv(tmp_path / "roc" / "pairs.csv")
    refused = pairs[pairs["b"] == "scratch"]
    assert refused[["estimate", "low", "high", "p", "p_holm"]].isna().all(axis=None)
    others = pairs.drop(refused.index)
    expected = np.minimum(1, 3 * others["p"]).tolist()
    assert others["p_holm"].tolist() == pytest.approx(expected, nan_ok=True)
    output = call("roc", tmp_path, "--count", 100, "--conditions", "natural, two_stage")
    assert "scratch" not in output
    pairs = pd.read_csv(tmp_path / "roc" / "pairs.csv")
    assert pairs["p_holm"].tolist() == pytest.approx(pairs["p"].tolist(), nan_ok=True)


def test_the_same_runs_give_the_same_files(sweep, roc_output, tmp_path):
    arguments = ("--rate", 0.1, "--rate", 0.3, "--partial", 0.2, "--mcclish", "--count", 200)
    call("roc", sweep / "runs", *arguments, "--out", tmp_path)
    for name in written(tmp_path):
        assert (tmp_path / name).read_bytes() == (roc_output[0] / name).read_bytes(), name


def test_of_two_classes_the_second_is_positive(tmp_path):
    run = make_run(tmp_path, classes=("healthy", "nodule"), groups_per_class=9)
    output = call("roc", run, "--count", 100, "--out", tmp_path / "a")
    assert set(pd.read_csv(tmp_path / "a" / "figures.csv")["class"]) == {"nodule"}
    assert "fewer than ten groups in healthy (9), nodule (9)" in output
    call("roc", run, "--count", 100, "--out", tmp_path / "b", "--positive", "healthy")
    assert set(pd.read_csv(tmp_path / "b" / "figures.csv")["class"]) == {"healthy"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--positive", "XYZ"), "--positive XYZ: none of the classes CON, GGO, NOR"),
        (("--rate", 1.5), "--rate"),
        (("--partial", 0), "--partial 0"),
        (("--mcclish",), "--mcclish"),
        (("--only", "seed=7"), "--only seed=7: no finished run"),
    ],
)
def test_roc_refuses_in_one_line(sweep, arguments, message):
    with pytest.raises(UserError, match=message):
        call("roc", sweep, *arguments)


@pytest.fixture
def tables(tmp_path):
    """Write the lesions and the candidates of two systems in 24 cases; case 0 has no candidate."""
    rng = np.random.default_rng(0)
    lesions, rows = ["case,lesion"], {"old": ["case,lesion,score"], "new": ["case,lesion,score"]}
    for i in range(24):
        names = [f"L{j}" for j in range(i % 3)]
        lesions += [f"c{i},{name}" for name in names or [""]]
        for system, skill in (("old", 0.5), ("new", 2.5)):
            if i:
                found = [f"c{i},{name},{rng.normal() + skill}" for name in names]
                rows[system] += found + [f"c{i},,{rng.normal()}" for _ in range(3)]
    (tmp_path / "lesions.csv").write_text("\n".join(lesions))
    for system, lines in rows.items():
        (tmp_path / f"{system}.csv").write_text("\n".join(lines))
    return tmp_path


def test_froc_of_two_systems(tables):
    files = tables / "old.csv", tables / "new.csv"
    output = call("froc", *files, "--lesions", tables / "lesions.csv", "--count", 500)
    out = tables / "froc"
    names = {"figures.csv", "pairs.csv", "curves.csv", "froc.png", "froc.svg"}
    assert written(out) == names
    figures, pairs = (pd.read_csv(out / f"{name}.csv") for name in ("figures", "pairs"))
    wide = figures.pivot(index="figure", columns="system", values="estimate")
    at = [f"sensitivity_at_{rate:g}" for rate in (0.125, 0.25, 0.5, 1, 2, 4, 8)]
    assert wide.loc["mean_sensitivity"].tolist() == pytest.approx(wide.loc[at].mean().tolist())
    # Case 0 has no candidates and counts: 23 cases with three false ones each, of 24.
    curves = pd.read_csv(out / "curves.csv")
    assert curves["false_positives_per_case"].max() == pytest.approx(3 * 23 / 24)
    assert "old: its candidates end at 2.88 false positives a case" in output
    mean = pairs.set_index("figure").loc["mean_sensitivity"]
    assert (mean["a"], mean["b"]) == ("new", "old")
    gap = wide.loc["mean_sensitivity", "new"] - wide.loc["mean_sensitivity", "old"]
    assert mean["estimate"] == pytest.approx(gap)
    assert mean["low"] > 0
    assert "mean_sensitivity: new - old: +" in output
    assert "seed" not in output


def test_froc_by_case_and_few_cases(tmp_path):
    (tmp_path / "lesions.csv").write_text("case,lesion\na,1\na,2\nb,1\nc,\n")
    (tmp_path / "s.csv").write_text("score,case,lesion\n3,a,1\n2,c,\n1,b,1\n")
    arguments = ("froc", tmp_path / "s.csv", "--lesions", tmp_path / "lesions.csv", "--rate", 0.1)
    output = call(*arguments)
    read = pd.read_csv(tmp_path / "froc" / "figures.csv")["estimate"][0]
    assert read == pytest.approx(1 / 3 + 0 / 3)
    call(*arguments, "--by-case")
    read = pd.read_csv(tmp_path / "froc" / "figures.csv")["estimate"][0]
    assert read == pytest.approx(1 / 2)
    assert "fewer than ten cases without lesions (1), cases with lesions (2)" in output


def test_froc_does_not_compare_a_run_that_did_not_learn(tmp_path):
    classes = ("healthy", "nodule")
    good, failed = (make_run(tmp_path, name, classes=classes, dead=name == "scratch")
                    for name in ("natural", "scratch"))  # fmt: skip
    images = pd.read_csv(good / "predictions.csv")
    hits = np.where(images["label"] == "nodule", "L" + images["id"], "")
    table, lesions = tmp_path / "table.csv", tmp_path / "lesions.csv"
    pd.DataFrame({"file": images["id"], "lesion": hits}).to_csv(table, index=False)
    cases = pd.DataFrame({"case": images["group"], "lesion": hits})
    without = cases[~cases["case"].isin(cases[cases["lesion"] != ""]["case"])].drop_duplicates()
    pd.concat([cases[cases["lesion"] != ""], without]).to_csv(lesions, index=False)
    output = call("froc", good, failed, "--lesions", lesions, "--table", table, "--count", 100)
    reason = f"{failed.name} did not learn in 1 of 1 runs (constant output)"
    assert output.count(f"not compared: {reason}") == 1
    assert "evidence" not in output
    pairs = pd.read_csv(tmp_path / "froc" / "pairs.csv")
    assert pairs[["estimate", "low", "high", "p"]].isna().all(axis=None)
    assert set(pairs["not_compared"]) == {reason}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("old.csv", "case,score\nc1,1\n", "old.csv: no column 'lesion'"),
        ("old.csv", "case,lesion,score\nc99,,1\n", "old.csv: case 'c99' of a candidate is not"),
        ("old.csv", "case,lesion,score\nc1,L0,high\n", "old.csv: .* no finite score"),
        ("old.csv", "case,lesion,score\n,L0,1\n", "old.csv: line 2 names no case"),
        ("old.csv", "", "old.csv: no column 'case'"),
        ("lesions.csv", "case,lesion\nc1,L0\nc1,L0\n", "lesions.csv: .* listed twice"),
        ("lesions.csv", "case,lesion\nc1,\n", "lesions.csv: no lesion"),
    ],
)
def test_froc_refuses_in_one_line(tables, file, text, message):
    (tables / file).write_text(text)
    with pytest.raises(UserError, match=message):
        call("froc", tables / "old.csv", "--lesions", tables / "lesions.csv")


def test_froc_without_a_file(tables):
    with pytest.raises(UserError, match=r"gone\.csv: no such table"):
        call("froc", tables / "gone.csv", "--lesions", tables / "lesions.csv")


def test_convergence(tmp_path):
    for seed in (0, 1):
        slow, fast = (make_run(tmp_path, name, seed=seed) for name in ("scratch", "natural"))
        add_auroc(slow, {9: 0.5, 19: 0.7, 29 + 10 * seed: 0.78, 79: 0.8})
        add_auroc(fast, {9: 0.79, 19: 0.8})
    output = call("convergence", tmp_path)
    out = tmp_path / "convergence"
    names = {"convergence.csv", "curves.csv", "convergence.png", "convergence.svg"}
    assert written(out) == names
    table = pd.read_csv(out / "convergence.csv").set_index(["condition", "seed"])
    assert table["batches"].to_dict() == {
        ("scratch", 0): 30,
        ("scratch", 1): 40,
        ("natural", 0): 10,
        ("natural", 1): 10,
    }
    assert table.loc[("scratch", 0), "all_batches"] == 80
    assert table["target_auroc"].tolist() == pytest.approx([0.76] * 4)
    assert list(dict.fromkeys(table.index.get_level_values(0))) == ["scratch", "natural"]
    assert "r = 1, scratch: 30 to 40 mini-batches until 95 % of the final validation AUC" in output


def test_a_run_that_did_not_learn_did_not_converge(tmp_path):
    for seed, dead in ((0, False), (1, True)):
        for condition in ("scratch", "natural"):
            failed = dead and condition == "scratch"
            add_auroc(make_run(tmp_path, condition, seed=seed, dead=failed), {9: 0.5, 19: 0.5})
    output = call("convergence", tmp_path)
    failed = "did not learn in 1 of 2 runs (constant output)"
    assert f"r = 1, scratch: no number of mini-batches: {failed}" in output
    assert "r = 1, natural: 10 to 10" in output or "r = 1, natural: 10 mini-batches" in output
    table = pd.read_csv(tmp_path / "convergence" / "convergence.csv")
    assert table["batches"].isna().tolist() == (~table["learned"]).tolist()
    assert (~table["learned"]).sum() == 1


def test_source_seeds_have_curves_of_their_own(tmp_path):
    for source in (0, 1):
        run = make_run(tmp_path, "natural", source_seed=source, key=str(source))
        add_auroc(run, {9: 0.5, 19: 0.8 + source / 10})
    call("convergence", tmp_path)
    table = pd.read_csv(tmp_path / "convergence" / "convergence.csv")
    assert table["source_seed"].tolist() == [0, 1]
    assert table["final_auroc"].tolist() == [0.8, 0.9]


def test_convergence_distinguishes_initialisations_and_depths(tmp_path):
    """As in Fig. 10: fine-tuning at two depths, and from scratch with three initialisations."""
    for scheme, batches in (("gaussian", 40), ("xavier", 30), ("kaiming", 20)):
        run = make_run(tmp_path, f"scratch_{scheme}", chain=("target",))
        add_auroc(run, {batches - 1: 0.9, 99: 0.9})
    for layer, batches in (("conv1", 10), ("fc6", 5)):
        add_auroc(make_run(tmp_path, "natural", tune_from=layer), {batches - 1: 0.9, 99: 0.9})
    call("convergence", tmp_path)
    table = pd.read_csv(tmp_path / "convergence" / "convergence.csv").set_index("condition")
    assert table["batches"].to_dict() == {
        "natural conv1-fc8": 10,
        "natural fc6-fc8": 5,
        "scratch_gaussian": 40,
        "scratch_kaiming": 20,
        "scratch_xavier": 30,
    }


def test_convergence_reports_what_it_leaves_out(tmp_path):
    run, bare = (make_run(tmp_path, seed=seed) for seed in (0, 1))
    going = make_run(tmp_path, seed=2, finished=False)
    with pytest.raises(UserError, match="no run has validation/auroc in logs/"):
        call("convergence", tmp_path)
    add_auroc(run, {9: 0.5})
    output = call("convergence", tmp_path)
    assert f"left out: {bare.name} has no validation/auroc" in output
    assert f"left out: {going.name} is unfinished" in output
