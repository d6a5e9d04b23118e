"""The pages of `stagetransfer serve`: who may see them, and that their figures are the report's."""

import fcntl
import re
from html import unescape
from types import SimpleNamespace

import pandas as pd
import pytest
from starlette.testclient import TestClient

from made_runs import add_learning_curve, gather_runs, make_run, make_sweep
from stagetransfer.pages.render import replace_report
from stagetransfer.reporting.answer_section import answer_section
from stagetransfer.reporting.sources_table import sources_table
from stagetransfer.runs.study import Study
from stagetransfer.serve import create_app
from stagetransfer.serve.site import Site

HERE = "http://127.0.0.1:8000"


def stranger(site):
    """Return a client without a cookie that follows no redirect."""
    return TestClient(create_app(lambda: site, "secret"), HERE, follow_redirects=False)


def client(*paths, **options):
    """Return a client that has the token's cookie, as its attribute `site` the site."""
    site = Site(paths, **options)
    found = stranger(site)
    found.follow_redirects, found.site = True, site
    assert found.get("/?token=secret").status_code == 200
    return found


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    return make_sweep(
        folder, ("scratch", "two_stage"), (0.5, 1.0), (0, 1), health={}, source_health={}
    )


@pytest.fixture(scope="module")
def pages(outputs):
    return client(outputs)


def text(html):
    """Return the words of a page, as a reader sees them."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_the_token_becomes_a_cookie_and_leaves_the_address(pages):
    new = stranger(pages.site)
    assert new.get("/").status_code == 403
    assert new.get("/?token=wrong").status_code == 403
    assert new.get("/style.css").status_code == 403
    first = new.get("/compare?ratio=1&token=secret")
    assert (first.status_code, first.headers["location"]) == (303, "/compare?ratio=1")
    assert {"httponly", "samesite=strict"} <= set(first.headers["set-cookie"].lower().split("; "))
    assert new.get("/").status_code == 200


def test_a_redirect_stays_on_this_host(pages):
    assert (
        stranger(pages.site).get(f"{HERE}//evil.example/?token=secret").headers["location"]
        == "/evil.example/"
    )


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"])
def test_a_request_for_another_host_is_refused(pages, host):
    assert pages.get("/", headers={"host": host}).status_code == 400
    assert pages.get("/", headers={"host": "localhost:8000"}).status_code == 200


def test_a_page_loads_nothing_from_elsewhere_and_is_not_stored(pages):
    answer = pages.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert "http" not in re.sub(r"data:image/[^\"]+", "", answer.text)
    assert "style=" not in answer.text


@pytest.mark.parametrize(
    "path",
    ["/runs/..%2f..%2fetc%2fpasswd", "/runs/%2e%2e", "/images/..%2fx/0", "/test/../0.png", "/x"],
)
def test_a_name_that_is_no_run_is_not_found(pages, path):
    assert pages.get(path).status_code == 404


def test_only_reading_is_possible(pages):
    assert pages.post("/").status_code == 405


def answer_of_a_report(folder, out, **named):
    """Return the words of the answer and of its table in a report on the runs."""
    study = Study(gather_runs([folder], **named).runs)
    replace_report("Report", [answer_section(study, [])], out)
    words = text((out / "report.html").read_text())
    table = re.search(r"Test accuracy by condition and ratio r .*?Holm's correction\.", words)[0]
    return re.search(r"(Does|Which) .*? Figure 5\.", words)[0], table


def test_the_overview_has_the_answer_and_the_table_of_the_report(pages, outputs, tmp_path):
    shown = text(pages.get("/").text)
    for words in answer_of_a_report(outputs, tmp_path):
        assert words in shown


def test_filters_select_the_runs_as_the_report_does(tmp_path):
    make_run(tmp_path, "scratch", epochs=9)
    make_run(tmp_path, "scratch", epochs=20, key="b")
    make_run(tmp_path, "texture", epochs=20)
    make_run(tmp_path, "natural", fingerprint="beef", root="/data/other")
    found = client(tmp_path)
    own = {"data_set": "embedded"}
    assert "differ in recipe.epochs" in text(found.get("/", params=own).text)
    only = own | {"only": ["recipe.epochs=20", ""]}
    options = ["data_set=embedded", "recipe.epochs=20"]
    for words in answer_of_a_report(tmp_path, tmp_path / "report", only=options):
        assert words in text(found.get("/", params=only).text)
    alone = text(found.get("/", params={**only, "conditions": "texture"}).text)
    assert "Which test accuracy does texture reach?" in alone
    assert "natural reached" in text(found.get("/", params={"data_set": "other"}).text)
    assert found.get("/", params={"data_set": "none"}).status_code == 200


def test_a_new_run_is_shown_when_it_is_finished(tmp_path):
    make_run(tmp_path, finished=False)
    found = client(tmp_path)
    assert "No run is finished yet" in found.get("/").text
    make_run(tmp_path, "texture")
    assert "texture reached" in text(found.get("/").text)


def cells(page, row):
    """Return the cells of the first table row that begins with a name."""
    found = re.search(
        rf'<th scope="row"[^>]*>(?:<a[^>]*>)?{row}(?:</a>)?</th>(.*?)</tr>', page, re.S
    )
    return [text(cell) for cell in re.findall(r"<td.*?</td>", found[1], re.DOTALL)]


def test_each_state_of_a_run_is_shown_with_its_line(tmp_path):
    done = make_run(tmp_path, health={})
    dead = make_run(tmp_path, seed=1, dead=True)
    failed = make_run(tmp_path, seed=2, finished=False, failure="<b>out of memory\nx")
    stopped = make_run(tmp_path, seed=3, finished=False)
    running = make_run(tmp_path, seed=4, finished=False)
    damaged = make_run(tmp_path, seed=5)
    (damaged / "metrics.json").write_text("{")
    lock = tmp_path / "runs" / ".locks" / f"{running.name}.lock"
    lock.parent.mkdir()
    found = client(tmp_path)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        page = found.get("/runs").text
        assert "data-running" in found.get(f"/runs/{running.name}/curves").text
    assert cells(page, done.name)[:4] == ["finished", "scratch", "1", "0"]
    assert cells(page, done.name)[4] == f"{found.site.runs[done.name].metrics['accuracy']:.3f}"
    assert cells(page, dead.name)[5] == "did not learn (constant output)"
    assert cells(page, failed.name)[::5] == ["failed", "<b>out of memory"]
    assert cells(page, stopped.name)[0] == "unfinished"
    assert cells(page, running.name)[0] == "running"
    assert cells(page, damaged.name)[0] == "damaged"
    assert "metrics.json" in cells(page, damaged.name)[5]
    assert "<b>out" not in page
    assert "data-running" not in found.get(f"/runs/{running.name}/curves").text


def test_an_unfinished_run_without_a_readable_config_has_empty_cells(tmp_path):
    folder = make_run(tmp_path, finished=False)
    (folder / "config.yaml").write_text("a: [")
    page = client(tmp_path).get("/runs").text
    assert cells(page, folder.name)[:5] == ["unfinished", "", "", "", ""]


def test_names_of_runs_are_quoted_in_addresses(tmp_path):
    folder = make_run(tmp_path, health={})
    folder = folder.rename(folder.with_name("two_stage #2 100% ü?"))
    found = client(tmp_path)
    quoted = "two_stage%20%232%20100%25%20%C3%BC%3F"
    for page in ("/runs", f"/runs/{quoted}", f"/images?run={quoted}", f"/images/{quoted}/0"):
        answer = found.get(page)
        assert answer.status_code == 200
        links = [*re.findall(r'(?:href|src|data-src)="(/[^"]*two_stage[^"]*)"', answer.text)]
        assert links
        assert not [link for link in links if re.search("[ #ü]", link)]
        assert {found.get(link).status_code for link in links} == {200}


def test_the_page_of_a_run_has_its_metrics_health_settings_and_curves(tmp_path):
    run = make_run(tmp_path, "texture", health={}, source_health={"remarks": ["Still improving."]})
    found = client(tmp_path)
    assert "No curve yet" in found.get(f"/runs/{run.name}").text
    add_learning_curve(run, 4)
    page = text(found.get(f"/runs/{run.name}").text)
    for name, value in found.site.runs[run.name].metrics.items():
        assert f"{value:.3f}" in page, name
    assert "Stage texture: 9 epochs; learned; validation recall 0.800 [0.700, 0.900]" in page
    assert "Still improving." in page
    assert "target: epoch 4, accuracy 0.800" in page
    assert "recipe.optimizer.lr 0.01" in page


def test_the_settings_of_two_runs_are_compared(tmp_path):
    a, b = make_run(tmp_path), make_run(tmp_path, seed=1, epochs=20)
    page = client(tmp_path).get("/runs", params={"run": [a.name, b.name]}).text
    assert cells(page, "recipe.epochs") == ["9", "20", "yes"]
    assert cells(page, "seed") == ["0", "1", "place in the sweep"]
    assert "recipe.monitor" not in page


def test_sources_are_shown_as_in_the_report(pages, outputs):
    (table,) = sources_table(Study(gather_runs([outputs]).runs))
    page = pages.get("/runs").text
    for row in table.rows:
        assert " ".join(" ".join(row).split()) in text(page)


def test_a_comparison_has_the_difference_of_the_report_and_counts_images(pages, outputs):
    study = Study(gather_runs([outputs]).runs)
    (pair,) = study.pairs(0.5, ["accuracy"])
    page = pages.get("/compare", params={"ratio": "0.5", "seed": "1"}).text
    x = pair.metrics["accuracy"]
    shown = f"two_stage - scratch: {100 * x.estimate:+.1f} points, 95 % interval "
    shown += f"[{100 * x.low:.1f}, {100 * x.high:.1f}], p {pair.holm['accuracy']:.3f}, 2 seeds"
    assert shown in text(page)
    tables = [pd.read_csv(run.folder / "predictions.csv") for run in (pair.of_a[1], pair.of_b[1])]
    a, b = (table["label"] == table["prediction"] for table in tables)
    for column, names in (("label", ["CON", "GGO", "NOR"]), ("group", ["pCON1"])):
        for name in names:
            own = tables[0][column] == name
            sets = (own, own & a, own & b, own & a & ~b, own & b & ~a)
            if column == "label" or sets[3].any() or sets[4].any():
                assert cells(page, name) == [str(one.sum()) for one in sets]
    assert f"Only two_stage is right: {(a & ~b).sum()} images" in text(page)
    assert "The images are not available" in page
    assert "best.ckpt is missing" in page


def test_the_images_of_both_conditions_are_checked(pages, monkeypatch):
    def images_of(site, name):
        return SimpleNamespace(problem="" if name.startswith("two_stage") else "scratch is lost")

    monkeypatch.setattr("stagetransfer.serve.compare_page.images_of", images_of)
    page = text(pages.get("/compare").text)
    assert "so only the numbers are shown: scratch is lost" in page


def test_a_condition_that_did_not_learn_is_not_compared(tmp_path):
    make_run(tmp_path)
    make_run(tmp_path, "texture", dead=True)
    page = text(client(tmp_path).get("/compare").text)
    assert "texture - scratch is not compared: texture did not learn" in page
    assert "Only texture is right" not in page
