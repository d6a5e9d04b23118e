"""The whole report: its files, self-contained and reproducible, also for incomplete sweeps."""

import re
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

from made_runs import add_learning_curve, make_run, make_sweep
from stagetransfer.errors import UserError
from stagetransfer.pages import plots
from stagetransfer.reporting import make_report


def command(*words):
    code = "from stagetransfer.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "report", *map(str, words)], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return a report of two conditions with a failed, an unfinished and a missing run."""
    outputs = tmp_path_factory.mktemp("sweep")
    for condition in ("scratch", "two_stage"):
        for ratio in (0.5, 1.0):
            add_learning_curve(make_run(outputs, condition, ratio, 0))
    make_run(outputs, "scratch", 1.0, 1)
    make_run(outputs, "scratch", 0.5, 1, finished=False)
    make_run(outputs, "two_stage", 0.5, 1, finished=False, failure="<out> of memory & more\nx")
    images = outputs / "images"
    images.mkdir()
    frame = pd.DataFrame({"layer": ["conv1", "fc6"], "cka": [0.25, 0.5]})
    frame.to_csv(images / "cka.csv", index=False)
    Image.new("RGB", (8, 8)).save(images / "roi.png")
    return make_report([outputs], visualization=images, count=200)


def test_the_report_is_beside_the_runs_with_all_its_files(report):
    assert report.name == "report"
    assert (report.parent / "runs").is_dir()
    plots = {"figure5", "recall_by_class", "confusion", "learning_curves-r1", "roc-r1"}
    plots |= {"learning_curves-r0.5"}
    for suffix in (".png", ".svg"):
        assert {file.stem for file in (report / "plots").glob(f"*{suffix}")} == plots
    tables = {file.stem for file in (report / "tables").glob("*.csv")}
    assert {"table2", "table2-r0.5", "table3", "pairs", "images", "stages", "runs"} <= tables
    shown = {file.stem for file in (report / "tables").glob("*.tex")}
    assert tables - shown == {"confusion", "recall_by_class", "roc_curves"} | {
        name for name in tables if name.startswith("mcnemar")
    }


def test_html_refers_to_no_other_file(report):
    html = (report / "report.html").read_text()
    assert "http" not in html.replace("http-equiv", "")
    sources = re.findall(r'(?:src|href)="([^"]{1,24})', html)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    anchors = set(re.findall(r'<section id="([^"]+)"', html))
    assert {source[1:] for source in re.findall(r'href="(#[^"]+)"', html)} == anchors


def test_images_of_the_markdown_page_exist(report):
    text = (report / "report.md").read_text()
    images = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(images) == 7
    assert all((report / image).is_file() for image in images)
    anchors = re.findall(r'^<a id="([^"]+)"></a>$', text, re.MULTILINE)
    assert re.findall(r"\]\(#([^)]+)\)", text) == anchors
    assert "roc-curves-at-r---1" in anchors
    rows = re.findall(r"^\|.*$", text, re.MULTILINE)
    assert all(row.endswith("|") for row in rows)


def test_missing_failed_and_unfinished_runs_are_in_the_first_section(report):
    first = (report / "report.md").read_text().split("\n## Test results")[0]
    for line in (
        r"two_stage-r0.5-s1-\w+: failed: \\<out> of memory & more$",
        r"scratch-r0.5-s1-\w+: unfinished$",
        r"two_stage, r = 1, seed 1: no run$",
    ):
        assert re.search(line, first, re.MULTILINE), line
    html = (report / "report.html").read_text()
    assert "failed: &lt;out&gt; of memory &amp; more" in html


def test_visualization_is_included(report):
    html = (report / "report.html").read_text()
    assert "<caption>cka</caption>" in html
    assert "0.2500" in html
    assert 'alt="roi: an image."' in html
    assert html.index("<h2>Visualization") < html.index("<h2>Appendix")


def test_the_text_of_each_figure_says_what_it_shows(report):
    html = (report / "report.html").read_text()
    alts = [alt for alt in re.findall('alt="([^"]*)"', html) if not alt.startswith("roi")]
    assert len(alts) == 6
    for alt in alts:
        assert re.search(r"scratch.*\d.*two_stage.*\d", alt, re.DOTALL)
    recalls = pd.read_csv(report / "tables" / "recall_by_class.csv").set_index("condition")
    first = recalls[recalls["ratio"] == 1].loc["scratch"].iloc[0]
    (alt,) = (alt for alt in alts if alt.startswith("Mean recall"))
    assert f"scratch {first['class']} {first['recall']:.2f}" in alt


def test_the_same_runs_give_the_same_files(report, tmp_path):
    def files(folder):
        found = sorted(file for file in folder.rglob("*") if file.is_file())
        return {str(file.relative_to(folder)): file.read_bytes() for file in found}

    outputs = report.parent
    runs = [outputs / "runs" / name for name in ("scratch-r1-s0-*", "scratch-r1-s1-*")]
    runs = [next(path.parent.glob(path.name)) for path in runs]
    a, b = (make_report(order, tmp_path / n, count=50) for n, order in
            (("a", runs), ("b", runs[::-1])))  # fmt: skip
    assert files(a) == files(b)
    assert b"1970" not in (a / "plots" / "figure5.svg").read_bytes()


def test_plots_of_an_earlier_report_are_removed(tmp_path):
    a, b = make_run(tmp_path, ratio=0.5), make_run(tmp_path, ratio=1.0)
    add_learning_curve(a)
    out = make_report([a, b], count=20)
    mine = [out / "tables" / "mine.csv", out / "plots" / "mine.png"]
    for file in mine:
        file.write_text("kept")
    assert (out / "plots" / "learning_curves-r0.5.png").exists()
    make_report([b], count=20)
    assert not (out / "plots" / "learning_curves-r0.5.png").exists()
    assert [file.read_text() for file in mine] == ["kept", "kept"]


def test_a_single_run_without_groups_with_a_custom_chain(tmp_path):
    chain = ("natural", "kylberg", "texture", "target")
    make_run(tmp_path, "a.b_c", 0.3, 7, chain=chain, groups_per_class=None, classes=("a|b", "c"))
    text = (make_report([tmp_path], count=50) / "report.md").read_text()
    assert "natural → kylberg → texture → target" in text
    assert "groups are unknown" in text
    assert "Test results at r = 0.3" in text
    assert "One seed only: a.b_c" in text
    assert "a\\|b" in text  # a class name that Markdown would take for two cells
    assert "there is no slope" in text
    assert "No two conditions" in text
    assert "have no metrics.csv" in text


def test_many_classes_with_long_names(tmp_path):
    classes = tuple(f"a material with a long name {i:02d}" for i in range(24))
    make_run(tmp_path, classes=classes, per_class=3, groups_per_class=3)
    assert (
        "only the 20 classes with the fewest"
        in (make_report([tmp_path], count=20) / "report.md").read_text()
    )


def test_a_warning_if_conditions_have_different_recipes(tmp_path):
    make_sweep(tmp_path, ("scratch",), (1.0,), (0,))
    make_sweep(tmp_path, ("natural",), (1.0,), (0,), epochs=14)
    text = (make_report([tmp_path], count=20) / "report.md").read_text()
    assert "scratch and natural differ in more than their chain: recipe.epochs is 9 and 14" in text


def test_no_finished_run_is_an_error(tmp_path):
    make_run(tmp_path, finished=False)
    with pytest.raises(UserError, match="none of 1 runs is finished"):
        make_report([tmp_path])


def test_the_command_writes_to_out_and_does_not_import_torch(tmp_path):
    make_sweep(tmp_path, ("scratch", "natural"), (1.0,), (0,))
    done = command(tmp_path / "runs", "--out", tmp_path / "here", "--only", "recipe.epochs=9")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "here" / "report.html") in done.stdout
    assert done.stderr == ""
    code = "import sys, stagetransfer.reporting; print('torch' in sys.modules)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert seen.stdout == "False\n"


def test_bad_input_is_one_line_and_code_2(tmp_path):
    make_run(tmp_path, seed=0)
    make_run(tmp_path, seed=1, test_set="other")
    for words in ([tmp_path], [tmp_path / "none"], [tmp_path, "--only", "recipe.epochs=8"]):
        done = command(*words)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_a_legend_is_not_wider_than_its_figure():
    for names in (
        ("scratch", "natural", "texture", "two_stage"),
        ("a-name-of-thirty-characters-000",),
    ):
        figure, axes = plots.grid(1, 1, (3.4, 3.4))
        for name in names:
            axes[0].plot([0, 1], label=name)
        plots.legend(figure, axes)
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
