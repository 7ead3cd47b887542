"""The MLflow UI as a person sees it: a real sweep, its prepared views, a real headless Chromium.

    ABLATIONS_SCREENSHOTS=docs/images python -m pytest -n 0 tests/test_browser.py      writes the pictures of the docs

Skipped where Debian's chromium and chromium-driver, or Python's selenium, are absent.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from test_cli import Project

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
if not (CHROMIUM and DRIVER):
    pytest.skip("no chromium and chromedriver", allow_module_level=True)
selenium = pytest.importorskip("selenium", reason="no selenium")

from selenium.webdriver import Chrome, ChromeOptions  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync")
FLAGS += ("disable-background-networking", "disable-component-update", "window-size=1700,950")
SECONDS = 60
VARIANTS = {(a, p) for a in ("relu", "tanh") for p in ("avg", "max")}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("browser"))
    done = project.run(
        "-m", "activation=relu,tanh", "pool=max,avg", "seed=0,1", "trainer.epochs=2", "name=grid"
    )
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture(scope="module")
def runs(project) -> pd.DataFrame:
    return project.runs("grid")


@pytest.fixture(scope="module")
def addresses(project) -> Iterator[dict[str, str]]:
    """What `python -m ablations.ui` prints, by the views' titles, while its server is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ablations.ui", "grid", "--port", "0"],
        cwd=project.elsewhere,
        env=os.environ | {"PYTHONPATH": str(project.root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        found = {}
        for line in process.stdout:
            if view := re.match(r"  (\w+) +(http\S+)", line):
                found[view[1]] = view[2]
            if line.startswith("Ctrl-C"):
                break
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    browser = Chrome(options=options, service=Service(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()


def opened(browser: Chrome, address: str, ready: Callable[[Chrome], object]) -> object:
    """Open a page anew and wait until it shows what it should."""
    browser.get("about:blank")
    browser.get(address)
    return WebDriverWait(browser, SECONDS, ignored_exceptions=(Exception,)).until(ready)


def all_of(browser: Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements("css selector", selector)


def cells(browser: Chrome, column: str) -> list[str]:
    """The texts of a column of the table, from its first row on."""
    rows = sorted(all_of(browser, f".ag-cell[col-id='{column}']"), key=lambda cell: cell.rect["y"])
    return [row.text for row in rows]


def picture(browser: Chrome, name: str) -> None:
    """Keep a picture of the page for the documentation, where one is asked for."""
    folder = os.environ.get("ABLATIONS_SCREENSHOTS")
    if folder is None:
        return
    for button in all_of(browser, "button[data-component-id='mlflow.assistant.chat_panel.close']"):
        button.click()
    WebDriverWait(browser, SECONDS).until(lambda b: not all_of(b, "[data-component-id*='chat_panel.close']"))
    path = Path(folder) / f"{name}.png"
    browser.save_screenshot(str(path))
    Image.open(path).convert("RGB").resize((1275, 605)).quantize(256).save(path, optimize=True)


def test_the_table_shows_what_was_varied_and_what_came_out(browser, addresses, runs):
    opened(browser, addresses["runs"], lambda b: len(cells(b, "metrics.`test/error_pct`")) == 8)
    shown = pd.DataFrame(
        {
            name: cells(browser, f"{kind}.`{name}`")
            for kind, name in (
                ("params", "activation"),
                ("params", "pool"),
                ("params", "seed"),
                ("metrics", "test/error_pct"),
                ("metrics", "val/accuracy"),
            )
        }
    )
    stored = runs.sort_values("metrics.test/error_pct")
    assert shown["test/error_pct"].astype(float).tolist() == pytest.approx(
        stored["metrics.test/error_pct"].tolist()
    )
    by_run = {tuple(row[:3]): tuple(map(float, row[3:])) for row in shown.itertuples(index=False)}
    columns = ["params.activation", "params.pool", "params.seed"]
    measured = ["metrics.test/error_pct", "metrics.val/accuracy"]
    for run in stored.to_dict("records"):
        there = by_run[tuple(run[name] for name in columns)]
        assert there == pytest.approx(tuple(run[name] for name in measured))
    picture(browser, "ui_table")


def test_two_runs_side_by_side_have_what_differs_highlighted(browser, addresses, runs):
    opened(browser, addresses["runs"], lambda b: len(all_of(b, ".ag-selection-checkbox input")) == 8)
    names = cells(browser, "attributes.`Run Name`")
    i, j = next(
        (i, j)
        for (i, one), (j, two) in combinations(enumerate(names), 2)
        if one.split()[-3] != two.split()[-3] and one.split()[-2:] == two.split()[-2:]
    )
    boxes = sorted(all_of(browser, ".ag-selection-checkbox input"), key=lambda box: box.rect["y"])
    for box in (boxes[i], boxes[j]):
        browser.execute_script("arguments[0].click()", box)
    wait = WebDriverWait(browser, SECONDS, ignored_exceptions=(Exception,))
    wait.until(lambda b: all_of(b, "[data-testid='runs-compare-button']:not([disabled])"))[0].click()
    wait.until(lambda b: all_of(b, "tr.diff-row"))
    chosen = json.loads(urllib.parse.unquote(browser.current_url).partition("runs=")[2].partition("&")[0])
    pair = runs.set_index("run_id").loc[chosen]
    highlighted = {row.text.split()[0] for row in all_of(browser, "tr.diff-row")}
    differing = {key[7:] for key in pair if key.startswith("params.") and pair[key].nunique(dropna=False) > 1}
    assert differing == {"activation"}
    assert {name for name in highlighted if f"params.{name}" in pair} == differing


def test_the_variants_have_one_group_each_with_means_over_the_seeds(browser, addresses, runs):
    opened(browser, addresses["variants"], lambda b: len(cells(b, "metrics.`test/error_pct`")) == 4)
    groups = cells(browser, "attributes.`Run Name`")
    levels = [tuple(re.findall(r"(?:activation|pool): (\w+)", text)) for text in groups]
    assert set(levels) == VARIANTS
    means = runs.groupby(["params.activation", "params.pool"])["metrics.test/error_pct"].mean()
    shown = map(float, cells(browser, "metrics.`test/error_pct`"))
    assert dict(zip(levels, shown, strict=True)) == pytest.approx(means.to_dict())


def test_the_charts_draw_a_line_for_each_run(browser, addresses):
    def drawn(browser: Chrome) -> list[tuple[str, int]]:
        found = []
        for card in all_of(browser, "[data-testid='experiment-view-compare-runs-card']")[:2]:
            # Beside each line lies a faint one, before smoothing, along the same path.
            paths = {line.get_attribute("d") for line in card.find_elements("css selector", "path.js-line")}
            found.append((card.text.splitlines()[0], len(paths)))
        return found if [lines for _, lines in found] == [8, 8] else []

    assert opened(browser, addresses["charts"], drawn) == [("val/accuracy", 8), ("train/loss", 8)]
    picture(browser, "ui_charts")
