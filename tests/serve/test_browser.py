"""The pages of `stagetransfer serve` in headless Chromium: no error, no violation found by axe."""

import re
import shutil
import subprocess
import sys

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from conftest import ONE_THREAD
from ct.ct_series import series
from inference.test_predict_command import body

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def served(start, tmp_path_factory):
    """The address of a served run and a folder of two slices, and the run's name."""
    outputs, scans = (tmp_path_factory.mktemp(name) for name in ("outputs", "scans"))
    run = start(outputs, "+experiment=scratch", "recipe.epochs=1").run()
    series(scans, body(2), spacing=("1.5", "1.5"))
    words = [sys.executable, "-m", "stagetransfer", "serve", outputs, "--input", scans]
    with subprocess.Popen(
        [*words, "--run", run], stdout=subprocess.PIPE, text=True, env=ONE_THREAD
    ) as server:
        yield server.stdout.readline().split()[1], run.name
        server.terminate()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_each_page_in_a_browser(served):
    address, run = served
    base, problems = address.partition("/?")[0], []
    paths = ["/", "/runs", f"/runs/{run}", "/images", f"/images/{run}/0", "/slices", "/compare"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.set_default_timeout(600_000)  # a slow machine is not a failure
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        assert page.url == f"{base}/"
        for path in paths:
            page.goto(base + path)
            page.wait_for_load_state("networkidle")
            found = Axe().run(page).response["violations"]
            assert [(path, one["id"], one["nodes"][0]["html"]) for one in found] == []
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390, path
        _try_the_map(page, base)
        assert problems == []
        browser.close()


def _try_the_map(page, base):
    """Change opacity and layers, and ask for a window by click and by keyboard."""
    page.goto(f"{base}/slices?slice=1")
    page.locator("#opacity").fill("20")
    assert page.evaluate("getComputedStyle(document.querySelector('.label')).opacity") == "0.2"
    layer = page.locator('[data-layer="outline"]')
    page.locator('[data-shows="outline"]').uncheck()
    expect(layer).to_be_hidden()
    shown = page.locator("#map").bounding_box()
    place = {"x": shown["width"] * 40 / 128, "y": shown["height"] / 2}
    page.locator("#map").click(position=place)
    reason = page.locator("#reason h2")
    expect.set_options(timeout=120_000)
    expect(reason).to_contain_text(re.compile("x (39|40), y (63|64): "))
    assert float(page.locator("#box").get_attribute("width")) > 0
    page.locator("[name=x]").fill("0")
    page.locator("[name=y]").fill("0")
    page.locator("[name=y]").press("Enter")
    expect(reason).to_have_text("x 0, y 0: outside the lungs.")
