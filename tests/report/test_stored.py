"""A sweep's report in the store: one run of a kind of its own, which counts nowhere."""

import pandas as pd
import pytest
from mlflow import MlflowClient

from ablations.comparison.selection import belonging
from ablations.predict.choosing import choose
from ablations.report import compile_report
from ablations.report.stored import DESCRIPTION, keep_in_store
from ablations.tracking import Reader, Store, Tracker
from ablations.tracking.columns import KIND, REPORT
from ablations.tracking.earlier import earlier_runs
from ablations.tracking.views import sweep_views

pytestmark = pytest.mark.usefixtures("without_figures")
SWEEP = "act]ivation"


def add_run(store: Store, seed: int, activation: str, **tags: str) -> None:
    params = {"activation": activation, "seed": seed}
    tags = {"sweep": SWEEP, "factors": "activation", "config_hash": f"{activation}{seed}", **tags}
    tracker = Tracker.start(store, "lenet5", f"activation={activation} seed={seed}", params, tags)
    error = 2.0 + seed + (activation == "tanh")
    tracker.log_metrics({"test/error_pct": error, "val/accuracy": 1 - error / 100}, 1)
    tracker.finish()


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Store:
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")
    store.prepare("lenet5")
    for seed in range(2):
        for activation in ("relu", "tanh"):
            add_run(store, seed, activation)
    return store


@pytest.fixture
def swept(template, tmp_path) -> Store:
    """A sweep of four runs in a store of the test's own."""
    return Reader(template).copied(tmp_path)


def reports(store: Store) -> pd.DataFrame:
    return Reader(store).runs(tags={KIND: REPORT})


def kept(store: Store, folder, **options) -> str:
    return keep_in_store(compile_report(SWEEP, store, folder / "reports"), store, **options)


def test_the_report_is_one_run_updated_in_place(swept, tmp_path):
    assert kept(swept, tmp_path) == ""
    (first,) = reports(swept).to_dict("records")
    assert (first["run_name"], first["status"], first["experiment"]) == (
        f"report: {SWEEP}",
        "FINISHED",
        "lenet5",
    )
    page = Reader(swept).artifact(first["run_id"], "report.html")
    for name in ("runs.csv", "effects.csv", "report.json"):
        (ours,) = (tmp_path / "reports").glob(f"*/{name}")
        assert Reader(swept).artifact(first["run_id"], name).read_bytes() == ours.read_bytes()
    before = page.read_text()
    add_run(swept, 2, "relu")
    assert kept(swept, tmp_path) == ""
    assert list(reports(swept)["run_id"]) == [first["run_id"]]
    assert page.read_text() != before
    assert "activation=relu seed=2" in page.read_text()


def test_it_is_among_no_runs(swept, tmp_path):
    def seen() -> tuple:
        reader = Reader(swept)
        views = sweep_views(reader, SWEEP, belonging)
        state = views.views[0].state
        found = MlflowClient(swept.uri).search_runs([views.experiment_id], state["searchFilter"])
        best = choose(reader.runs(), "best")["run_id"]
        earlier = [run.run_id for run in earlier_runs(swept, "lenet5", {})]
        return views.runs, views.left_out, sorted(run.info.run_id for run in found), best, earlier

    runs, before = Reader(swept).runs(), seen()
    assert kept(swept, tmp_path) == ""
    pd.testing.assert_frame_equal(Reader(swept).runs(), runs)
    pd.testing.assert_frame_equal(Reader(swept).runs("lenet5", where="attributes.status = 'FINISHED'"), runs)
    assert seen() == before
    report = reports(swept)["run_id"].item()
    views = sweep_views(Reader(swept), SWEEP, belonging)
    assert views.report == f"/experiments/{views.experiment_id}/runs/{report}/artifacts/report.html"


def test_somebody_elses_kind_of_run_stays_one(swept):
    add_run(swept, 3, "relu", kind="report")
    assert len(Reader(swept).runs()) == 5


def test_only_what_is_there_is_updated_where_that_is_asked(swept, tmp_path):
    assert kept(swept, tmp_path, update=True) == ""
    assert reports(swept).empty
    kept(swept, tmp_path)
    assert kept(swept, tmp_path, update=True) == ""
    assert len(reports(swept)) == 1


def test_the_experiment_lists_its_reports_unless_it_has_a_description(swept, tmp_path):
    kept(swept, tmp_path)
    experiment = reports(swept)["experiment_id"].item()
    address = f"#/experiments/{experiment}/runs/{reports(swept)['run_id'].item()}/artifacts/report.html"
    listed = f"Reports of sweeps: [act\\]ivation]({address})"
    assert Reader(swept).experiment_tags(experiment)[DESCRIPTION] == listed
    swept.tag_experiment(experiment, DESCRIPTION, "ours")
    kept(swept, tmp_path)
    assert Reader(swept).experiment_tags(experiment)[DESCRIPTION] == "ours"


def test_a_store_that_is_away_is_said_and_no_more(swept, tmp_path):
    report = compile_report(SWEEP, swept, tmp_path / "reports")
    assert "no MLflow server answers" in keep_in_store(report, Store("http://127.0.0.1:9"))
    swept.path.rename(tmp_path / "elsewhere.db")
    assert "there is no MLflow store" in keep_in_store(report, swept)
