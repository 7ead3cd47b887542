"""The models that an experiment lists: MLflow's tab of that name."""

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ablations.tracking import Store, Tracker, directly
from ablations.tracking.directly import ARTIFACT
from ablations.tracking.models import list_models

NAME = "activation=relu optimizer.lr=0.1 seed=0"


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def folder(tmp_path):
    """Artifacts with a model in MLflow's format."""
    (tmp_path / "left" / "model").mkdir(parents=True)
    (tmp_path / "left" / "model" / "MLmodel").write_text(
        "flavors: {}\nutc_time_created: '2026-01-01 00:00:00'\nmodel_uuid: a\n"
    )
    return tmp_path / "left"


def tracked(store: Store, folder) -> Tracker:
    tracker = Tracker.start(store, "lenet5", NAME, {"activation": "relu"}, {})
    tracker.log_metrics({"test/error_pct": 2.5, "val/accuracy": 0.9}, 3)
    tracker.log_files(folder)
    return tracker


def test_the_experiment_lists_the_model_of_a_run_with_its_result(store, folder):
    tracker = tracked(store, folder)
    tracker.finish()
    api = MlflowClient(store.uri)
    run = api.get_run(tracker.run_id)
    (model,) = api.search_logged_models([run.info.experiment_id])
    assert model.status == "READY"
    assert model.name == "activation=relu optimizer_lr=0_1 seed=0"  # MLflow takes no dots here
    assert (model.source_run_id, model.tags[ARTIFACT]) == (tracker.run_id, "model")
    assert f"runs:/{tracker.run_id}/model" in model.tags["mlflow.note.content"]
    assert model.params == {"activation": "relu"}
    assert [(each.key, each.value, each.step) for each in model.metrics] == [("test/error_pct", 2.5, 3)]
    assert [each.model_id for each in run.outputs.model_outputs] == [model.model_id]
    assert len(api.get_metric_history(tracker.run_id, "test/error_pct")) == 1
    assert (store.artifacts / tracker.run_id / "artifacts/model/MLmodel").exists()  # and nowhere else
    assert not (store.artifacts / "models").exists()


def test_a_second_time_changes_nothing_and_half_an_entry_is_replaced(store, folder, monkeypatch):
    def cut(*_):
        raise MlflowException("the server stalls")

    monkeypatch.setattr(MlflowClient, "log_outputs", cut)
    monkeypatch.setattr(directly, "REVISION", "another")  # as a server, by MLflow
    tracker = tracked(store, folder)
    api = MlflowClient(store.uri)
    experiment = api.get_run(tracker.run_id).info.experiment_id
    (half,) = api.search_logged_models([experiment])
    assert half.status == "PENDING"
    monkeypatch.undo()
    tracker.finish()  # delivers
    (model,) = api.search_logged_models([experiment])
    assert model.status == "READY"
    list_models(api, tracker.run_id, ["model"])
    assert [each.model_id for each in api.search_logged_models([experiment])] == [model.model_id]


def test_a_server_that_lists_no_models_takes_the_run(store, folder, monkeypatch):
    def unknown(*_, **__):
        raise MlflowException("no such endpoint", error_code=1001)  # ENDPOINT_NOT_FOUND

    monkeypatch.setattr(MlflowClient, "search_logged_models", unknown)
    monkeypatch.setattr(directly, "REVISION", "another")
    tracker = tracked(store, folder)
    tracker.finish()
    assert MlflowClient(store.uri).get_run(tracker.run_id).info.status == "FINISHED"
    store.discard(tracker.run_id)


def test_the_models_of_a_discarded_run_go_with_it(store, folder):
    tracker = tracked(store, folder)
    tracker.finish()
    api = MlflowClient(store.uri)
    experiment = api.get_run(tracker.run_id).info.experiment_id
    store.discard(tracker.run_id)
    assert api.search_logged_models([experiment]) == []
