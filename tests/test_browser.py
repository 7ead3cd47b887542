"""The MLflow UI on a sweep as its users see it: in a real browser, at the addresses that `ablations.ui` prints."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from project import PATIENCE_S, Project

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("no chromium and chromedriver (Debian's packages of these names)", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: it comes with the extra `test`")

pytestmark = pytest.mark.slow  # half a minute; .ci/run has it

FACTORS = ["activation", "pool"]
COLUMNS = ["test/error_pct", "val/accuracy", "time/epoch_s"]
CURVES = ["val/accuracy", "train/loss"]
RUNS, VARIANTS = 8, 4
FLAGS = [
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "disable-dev-shm-usage",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "window-size=1600,1000",
]

# One row of MLflow's grid is three elements: what is pinned at the left, the columns, and what is laid over them.
ROWS = """
const rows = {};
for (const cell of document.querySelectorAll('[role=row][row-index] [role=gridcell][col-id]')) {
    const row = rows[cell.closest('[role=row]').getAttribute('row-index')] ??= {};
    row[cell.getAttribute('col-id')] = cell.innerText;
}
return Object.keys(rows).sort((a, b) => a - b).map(index => rows[index]);
"""
HEADERS = """
return [...document.querySelectorAll('.ag-header-cell[col-id]')]
    .sort((a, b) => a.getBoundingClientRect().x - b.getBoundingClientRect().x)
    .map(header => header.getAttribute('col-id'));
"""
CHARTS = """
return [...document.querySelectorAll('[data-testid=experiment-view-compare-runs-card]')]
    .filter(card => card.querySelector('.js-plotly-plot path.js-line'))
    .map(card => ({
        title: card.innerText.split('\\n')[0],
        lines: [...card.querySelectorAll('path.js-line')].map(line => line.getAttribute('d')),
        traces: card.querySelector('.js-plotly-plot').data.map(trace => [trace.uuid, trace.x, trace.y]),
    }));
"""
COMPARED = """
return [...document.querySelectorAll('table.mlflow-compare-run-table tr')]
    .filter(row => row.querySelector('th.head-value') && row.querySelector('td.data-value'))
    .map(row => ({
        name: row.querySelector('th.head-value').innerText,
        values: [...row.querySelectorAll('td.data-value')].map(cell => cell.innerText),
        colour: getComputedStyle(row.querySelector('td.data-value')).backgroundColor,
    }));
"""


class Page:
    """A browser's window, and the scripts that read it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        """A fresh load: between two addresses that differ behind their # the page would stay as it is."""
        self.driver.get("about:blank")
        self.driver.get(address)

    def read(self, script: str, until: Callable[[Any], bool]) -> Any:
        """What the script finds, once that is what is waited for."""
        from selenium.webdriver.support.ui import WebDriverWait

        found = None

        def there(driver: Any) -> bool:
            nonlocal found
            found = driver.execute_script(script)
            return until(found)

        try:
            WebDriverWait(self.driver, PATIENCE_S).until(there)
        except Exception as error:
            pytest.fail(f"{self.driver.current_url} shows {found!r:.3000}: {type(error).__name__}")
        return found

    def table(self, rows: int) -> pd.DataFrame:
        """The grid, once its rows have their metrics: one row for each, columns as MLflow names them."""
        last = f"metrics.`{COLUMNS[-1]}`"
        found = self.read(ROWS, lambda found: len(found) == rows and all(row.get(last) for row in found))
        return pd.DataFrame(found)

    def click(self, selector: str) -> None:
        self.read(f"return document.querySelector({json.dumps(selector)}) !== null", bool)
        self.driver.find_element("css selector", selector).click()


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def left(project) -> dict[str, str]:
    """The experiment's tags as the sweep left them."""
    done = project.run(
        "-m", "activation=relu,tanh", "pool=max,avg", "seed=0,1", "trainer.epochs=2", "name=activation-pool"
    )
    assert done.returncode == 0, done.stderr
    return project.reader.experiment_tags(project.runs("activation-pool")["experiment_id"].iloc[0])


@pytest.fixture(scope="module")
def runs(project, left) -> pd.DataFrame:
    return project.runs("activation-pool").sort_values("metrics.test/error_pct", kind="stable")


@pytest.fixture(scope="module")
def addresses(project, left) -> Iterator[dict[str, str]]:
    """What `python -m ablations.ui` prints, by title; the server runs as long as the tests of this file."""
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    process = subprocess.Popen(
        [sys.executable, "-m", "ablations.ui", "--port", "0"],
        cwd=project.elsewhere,
        env=environment | {"PYTHONPATH": str(project.root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == f"sweep activation-pool, {RUNS} runs:\n"
        yield dict(process.stdout.readline().split() for _ in range(3))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def page(addresses, tmp_path_factory) -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    # A driver that is named is not looked for on the network.
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        driver.get(addresses["runs"].partition("#")[0] + "health")
        # The assistant opens on somebody's first visit, and takes a third of the window.
        driver.execute_script("localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1'] = true")
        yield Page(driver)
    finally:
        driver.quit()


def test_the_sweep_leaves_its_views(left, addresses):
    keys = {address.partition("viewStateShareKey=")[2].partition("&")[0] for address in addresses.values()}
    assert len(keys) == 2
    assert {f"mlflow.sharedViewState.{key}" for key in keys} <= set(left)


def test_the_table_shows_what_was_swept_and_what_came_of_it(page, addresses, runs):
    page.open(addresses["runs"])
    shown = page.table(RUNS)
    swept = [f"params.`{name}`" for name in (*FACTORS, "seed")]
    metrics = [f"metrics.`{name}`" for name in COLUMNS]
    headers = page.read(HEADERS, lambda found: set(metrics) <= set(found))
    assert [name for name in headers if name.startswith(("params", "metrics"))] == [*swept, *metrics]
    assert headers[-1] == "duration"

    shown.index = shown["attributes.`Run Name`"].str.split("\n").str[-1]
    there = runs.set_index("run_name").loc[shown.index]
    for column in swept:
        assert list(shown[column]) == list(there[column.replace("`", "")]), column
    for column in metrics:
        values = shown[column].astype(float)
        np.testing.assert_allclose(values, there[column.replace("`", "")], rtol=1e-12, err_msg=column)
    assert list(shown[metrics[0]].astype(float)) == sorted(there["metrics.test/error_pct"])


def test_two_runs_compared_show_the_params_that_differ_highlighted(page, addresses, runs):
    page.open(addresses["runs"])
    names = list(page.table(RUNS)["attributes.`Run Name`"].str.split("\n").str[-1])
    chosen = ["activation=relu pool=max seed=0", "activation=tanh pool=max seed=1"]
    for name in chosen:
        page.click(
            f'.ag-pinned-left-cols-container [row-index="{names.index(name)}"] .ag-selection-checkbox input'
        )
    page.click("[data-testid=runs-compare-button]")
    rows = page.read(COMPARED, lambda found: {"activation", "seed"} <= {row["name"] for row in found})

    two = runs.set_index("run_name").loc[chosen].filter(like="params.").dropna(axis=1)
    two.columns = two.columns.str.removeprefix("params.")
    compared = {row["name"]: row for row in rows if row["name"] in two}
    assert set(compared) == set(two)
    values = [compared[name]["values"] for name in ("activation", "pool", "seed")]
    assert set(zip(*values, strict=True)) == {("relu", "max", "0"), ("tanh", "max", "1")}
    colours = {name: row["colour"] for name, row in compared.items()}
    assert colours["activation"] != colours["pool"]
    highlighted = {name for name, colour in colours.items() if colour == colours["activation"]}
    assert highlighted == {name for name in two if two[name].nunique() > 1} == {"activation", "seed"}


def test_the_charts_draw_a_line_for_each_variant(page, project, addresses, runs):
    page.open(addresses["charts"])
    drawn = page.read(
        CHARTS,
        lambda found: (
            {chart["title"] for chart in found} >= set(CURVES)
            and all(len(set(chart["lines"])) >= VARIANTS for chart in found)
        ),
    )
    charts = {chart["title"]: chart for chart in drawn}
    histories = project.reader.histories(list(runs["run_id"]), CURVES).merge(runs, on="run_id")
    for metric in CURVES:
        means = histories[histories["metric"] == metric].groupby(
            [*(f"params.{name}" for name in FACTORS), "step"]
        )
        means = means["value"].mean().unstack("step")
        shown = {tuple(y) for _, x, y in charts[metric]["traces"] if x == [1, 2]}  # the others are bands
        np.testing.assert_allclose(sorted(shown), sorted(means.to_numpy().tolist()), rtol=1e-9)


def test_the_experiment_lists_its_models(page, addresses, runs):
    page.open(addresses["runs"].partition("/runs?")[0] + "/models?workflowType=machine_learning")
    shown = page.read(ROWS, lambda found: len([row for row in found if "Ready" in json.dumps(row)]) == RUNS)
    text = json.dumps(shown)
    assert all(name in text for name in runs["run_name"])


def test_the_variants_show_means_over_seeds(page, addresses, runs):
    page.open(addresses["variants"])
    shown = page.table(VARIANTS)
    metrics = [f"metrics.{name}" for name in COLUMNS]
    means = runs.groupby([f"params.{name}" for name in FACTORS])[metrics].mean()
    means.index = [f"Group: activation: {activation}, pool: {pool}" for activation, pool in means.index]
    _, names, sizes = zip(*shown["attributes.`Run Name`"].str.split("\n"), strict=True)
    assert sorted(names) == sorted(means.index)
    means = means.loc[list(names)]
    assert means["metrics.test/error_pct"].is_monotonic_increasing
    assert list(sizes) == ["2"] * VARIANTS
    for metric in COLUMNS:
        cells = shown[f"metrics.`{metric}`"].str.split()
        assert set(cells.str[1]) == {"(average)"}
        np.testing.assert_allclose(cells.str[0].astype(float), means[f"metrics.{metric}"], rtol=1e-9)
