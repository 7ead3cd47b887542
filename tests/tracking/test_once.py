"""One configuration, one run, whatever the store did at the wrong moment. The training is a stub, all else is real."""

import importlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from line import Line, locked
from mlflow import MlflowClient

from ablations.errors import InputError
from ablations.experiment import record
from ablations.experiment.evaluation.measure import Further, Parts
from ablations.experiment.job import Job
from ablations.tracking import AwayError, Reader, Store, Tracker, deliver, journal, writer
from ablations.training.loop import Epoch, Evaluation, State, Step

run = importlib.import_module("ablations.experiment.run")  # the package has its function by this name

pytestmark = pytest.mark.usefixtures("impatient", "stub")

EPOCHS = 3
FILES = ("model.npz", "config.yaml", "deep/note.txt")
PER_EPOCH = 5  # metrics
AT_THE_END = 4


@dataclass(frozen=True)
class Asked(Job):
    """A job by its key: what agrees in that has the same result."""

    place: Path = Path()
    key: str = ""
    asking: str | None = "s"

    trial = None
    name = property(lambda self: self.key)
    experiment = property(lambda _: "lenet5")
    sweep = property(lambda self: self.asking)
    identity = property(lambda self: {"config_hash": self.key, "code_hash": "k", "data_sha256": "d"})
    folder = property(lambda self: self.place / self.key)
    invocation = property(
        lambda self: {} if self.asking is None else {"sweep": self.asking, "sweep_id": "1", "command": "c"}
    )
    params = property(lambda self: {"key": self.key})


@pytest.fixture
def ask(tmp_path) -> Callable[..., Asked]:
    """ask(store, key, sweep, machine): the job; each machine has its own folder of checkpoints."""

    def ask(
        store: Store, key: str = "a", sweep: str | None = "s", machine: str = "here", rerun: bool = False
    ):
        labels = np.zeros(3, int)
        recipe = SimpleNamespace(
            options=SimpleNamespace(epochs=EPOCHS, batch_size=1),
            training=[0],
            every_steps=None,
            stream="",
            dataset=SimpleNamespace(
                name="digits", sha256="d", train_labels=labels, test_labels=labels, changes=()
            ),
            network=None,
            normalization=None,
            test=SimpleNamespace(labels=np.arange(3)),
        )
        return Asked(
            None,
            store,
            30.0,
            rerun,
            Parts(False, False, False),
            recipe,
            place=tmp_path / machine,
            key=key,
            asking=sweep,
        )

    return ask


@pytest.fixture
def stub(monkeypatch, tmp_path) -> SimpleNamespace:
    """A training that takes no time, or `train.seconds` an epoch; `trained`: the epochs of all of them."""
    epochs: list[int] = []

    def train(recipe, watch, keep, resume) -> Iterator[Epoch]:
        for number in range(1 if resume is None else resume.epoch + 1, EPOCHS + 1):
            watch(Step(number, 0.5, 0.5, 0.1))
            time.sleep(train.seconds)
            epochs.append(number)
            yield Epoch(number, 1 / number, 0.5, 0.1, None, None, {}, time.perf_counter(), 1.0)
            keep(State(number, number, np.zeros(1), {}, {}))

    train.seconds = 0.0

    def write_artifacts(folder: Path, *_: object) -> None:
        for name in FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(bytes(1000) + name.encode())

    result = Evaluation(0.1, 0.75, {}, np.zeros(3, int), np.ones(3))
    choices = {"hydra/launcher": "basic"}
    context = SimpleNamespace(runtime=SimpleNamespace(choices=choices, output_dir=tmp_path))
    monkeypatch.setattr(record, "HydraConfig", SimpleNamespace(get=lambda: context))
    monkeypatch.setattr(record, "write_artifacts", write_artifacts)
    monkeypatch.setattr(record, "RESULT_FILES", FILES)
    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(run, "evaluate", lambda *_: result)
    monkeypatch.setattr(run, "measure", lambda *_: Further())
    return SimpleNamespace(trained=epochs, train=train)


def assert_once(store: Store, keys: list[str], sweep: str | None = "s") -> None:
    """Each configuration FINISHED once and nothing else, each metric once, each file once and whole."""
    reader = Reader(store)
    runs = reader.runs("lenet5", {"sweep": sweep} if sweep else None)
    assert sorted(zip(runs["params.key"], runs["status"], strict=True)) == [
        (key, "FINISHED") for key in sorted(keys)
    ]
    history = reader.histories(list(runs["run_id"]))
    assert not history.duplicated(["run_id", "metric", "step"]).any()
    assert len(history) == len(keys) * (PER_EPOCH * EPOCHS + AT_THE_END)
    for run_id in runs["run_id"]:
        for name in FILES:
            assert reader.artifact(run_id, name).read_bytes() == bytes(1000) + name.encode()
    assert journal.waiting() == []


# (a) What waits is not trained again


@pytest.fixture
def full(store) -> Path:
    """No artifact can be written, as on a disk that is full; the database works."""
    store.artifacts.parent.mkdir(exist_ok=True)
    store.artifacts.write_bytes(b"")
    return store.artifacts


def test_runs_whose_artifacts_wait_are_not_trained_again(store, full, ask, stub):
    first = [run._result(ask(store, key)).run_id for key in ("a", "b")]
    assert len(stub.trained) == 2 * EPOCHS
    for _ in range(2):
        assert [run._result(ask(store, key)).run_id for key in ("a", "b")] == first
    assert len(stub.trained) == 2 * EPOCHS
    assert len(journal.waiting()) == 2
    full.unlink()
    assert [each.problem for each in deliver()] == [None, None]
    assert_once(store, ["a", "b"])


def test_what_was_asked_for_last_is_known_once_it_is_delivered(store, full, ask):
    run._result(ask(store))
    with closing(Tracker.of(store, run._result(ask(store)).run_id)) as tracker:
        tracker.set_tags({"command": "the last"})
    full.unlink()
    deliver()
    assert list(Reader(store).runs()["tags.command"]) == ["the last"]
    assert_once(store, ["a"])


def test_a_run_that_waits_whole_is_not_trained_again_while_the_store_is_locked(store, ask, stub):
    with locked(store):
        first = run._result(ask(store)).run_id
        assert first.startswith("local-")
        assert run._result(ask(store)).run_id == first
    assert stub.trained == [1, 2, 3]
    run._result(ask(store))
    assert_once(store, ["a"])


def test_the_outbox_of_a_deleted_run_goes(store, full, ask, capsys):
    """Whether it was deleted in MLflow's UI, or by us."""
    run_id = run._result(ask(store)).run_id
    store.discard(run_id)
    (delivery,) = deliver()
    assert (delivery.run_id, delivery.dropped, delivery.problem) == (run_id, True, None)
    assert deliver() == journal.waiting() == []
    interrupted = Tracker.start(store, "lenet5", "a", {"key": "a"}, ask(store).identity | {"sweep": "s"})
    interrupted.log_metrics({"train/loss": 1.0}, 1)
    interrupted.log_text("x", "x.txt")  # which waits
    interrupted.fail("interrupted", "stopped")
    full.unlink()
    full.mkdir()
    full.with_name("artifacts").rmdir()
    run._result(ask(store))
    assert_once(store, ["a"])


def test_a_run_that_was_created_and_deleted_is_not_created_again(store, ask):
    with locked(store), closing(Tracker.start(store, "lenet5", "a", {}, {}, offline_ok=True)) as tracker:
        local_id = tracker.run_id
    run_id = MlflowClient(store.uri).create_run("1", tags={"local_id": local_id}).info.run_id
    store.discard(run_id)
    assert [each.dropped for each in deliver()] == [True]
    assert Reader(store).runs().empty
    assert journal.waiting() == []


# (b) A locked store is read


def _locked(*_: object) -> None:
    """MLflow waits for a lock for 20 s."""
    raise AwayError("database is locked")


def test_a_repeat_while_the_store_is_locked_uses_what_it_has(store, ask, stub):
    first = [run._result(ask(store, key)).run_id for key in ("a", "b")]
    with pytest.MonkeyPatch.context() as patch, locked(store):
        patch.setattr(writer, "send", _locked)
        assert [run._result(ask(store, key)).run_id for key in ("a", "b")] == first
    assert len(stub.trained) == 2 * EPOCHS
    deliver()
    assert_once(store, ["a", "b"])


def test_a_store_that_cannot_even_be_read_is_away(store, ask, stub):
    with closing(sqlite3.connect(store.path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    first = run._result(ask(store)).run_id
    with locked(store), pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "send", _locked)
        with pytest.raises(AwayError, match="locked"):
            Reader(store)
        assert run._result(ask(store)).run_id != first  # nobody knows
    deliver()
    assert len(Reader(store).runs()) == 2
    assert run._result(ask(store)).run_id == first
    assert_once(store, ["a"])  # the oldest stays


def test_results_that_were_asked_for_again_stay(store, ask, stub):
    for rerun in (False, True, True):
        run._result(ask(store, rerun=rerun))
    run._result(ask(store))
    assert list(Reader(store).runs()["status"]) == ["FINISHED"] * 3


# (c) An answer that is lost


@pytest.mark.slow  # many seconds; .ci/run has it
def test_a_creation_without_an_answer_and_a_server_out_of_order(line, ask, stub):
    """The run is in the store without anybody knowing it, and what it logged waits."""
    prepared = line.store.prepare("lenet5")
    assert prepared
    create = Tracker._begin

    def begin(self, *arguments: object) -> None:
        line.set("lose", only="runs/create")
        create(self, *arguments)
        line.set("error", only="/health")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tracker, "_begin", begin)
        patch.setattr("ablations.tracking.store.PAUSES", ())
        local_id = run._result(ask(line.store)).run_id
    assert local_id.startswith("local-")
    with pytest.MonkeyPatch.context() as patch:  # it cannot be delivered yet, but the store can be read
        patch.setattr(run, "deliver", lambda _: [])
        line.set("good")
        run_id = run._result(ask(line.store)).run_id
    assert list(Reader(line.store).runs()["run_id"]) == [run_id]
    assert stub.trained == [1, 2, 3]
    deliver()
    assert_once(line.store, ["a"])


def test_an_interrupted_run_with_a_local_id_goes_on_behind_what_waits(store, ask, stub):
    with locked(store):
        tracker = Tracker.start(
            store, "lenet5", "a", {"key": "a"}, ask(store).identity | {"sweep": "s"}, True
        )
        tracker.log_metrics({"train/loss": 9.0}, 1)
        tracker.fail("interrupted", "stopped")
    api = MlflowClient(store.uri)
    tags = ask(store).identity | {"sweep": "s", "local_id": tracker.run_id}
    run_id = api.create_run("1", tags=tags).info.run_id  # the request arrived after all
    with closing(Tracker.of(store, run_id, tracker.run_id)) as behind:
        assert behind.waits
    assert Tracker.of(store, "another", None).waits is False


# (d) A line that fails in every way


def rounds(line: Line, ask: Callable[..., Asked], seed: int) -> None:
    """A sweep of two, given three times on a line that fails, and once on a good one."""
    line.seed, keys = seed, [f"{seed}a", f"{seed}b"]
    line.set("mixed")
    for _ in range(3):
        for key in keys:
            with suppress(InputError):
                run._result(ask(line.store, key, f"s{seed}"))
    line.set("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        assert [each.problem for each in deliver() if each.problem] == []
        for key in keys:
            assert run._result(ask(line.store, key, f"s{seed}")).error is None
        assert_once(line.store, keys, f"s{seed}")


@pytest.mark.slow  # many seconds; .ci/run has it
@pytest.mark.parametrize("seed", [0])
def test_each_once_on_a_line_that_fails(line, ask, seed):
    rounds(line, ask, seed)


@pytest.mark.slow  # 16 s a round on two busy cores
def test_each_once_on_a_line_that_fails_200_times(line, ask):
    for seed in range(100, 300):
        rounds(line, ask, seed)


@pytest.mark.slow  # many seconds; .ci/run has it
@pytest.mark.parametrize("fault", ["twice", "late", "lose"])
def test_a_creation_that_makes_doubles(line, ask, stub, fault):
    line.set(fault, only="runs/create")
    run._result(ask(line.store))
    line.set("good")
    time.sleep(0.1)
    run._result(ask(line.store))
    assert_once(line.store, ["a"])
    assert stub.trained == [1, 2, 3]


def test_doubles_that_are_deleted_take_nothing_along(store, ask, stub, full):
    run_id = run._result(ask(store)).run_id  # its files wait
    known = MlflowClient(store.uri).get_run(run_id)
    MlflowClient(store.uri).create_run("1", known.info.start_time, known.data.tags)
    assert run._result(ask(store)).run_id == run_id
    full.unlink()
    deliver()
    assert_once(store, ["a"])
    assert stub.trained == [1, 2, 3]


# (e) Two machines at the same moment


@pytest.mark.slow  # many seconds; .ci/run has it
@pytest.mark.parametrize(
    ("slow_s", "sweep"),
    [
        ((2.0, 2.0), "s"),
        pytest.param((2.0, 2.0), None, marks=pytest.mark.slow),
        pytest.param((1.5, 0.3), "s", marks=pytest.mark.slow),
        pytest.param((0.3, 1.5), "s", marks=pytest.mark.slow),
    ],
)
def test_two_machines_that_start_at_the_same_moment(line, ask, stub, monkeypatch, slow_s, sweep):
    """The server takes its time to create a run, so that neither sees the other's."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    stub.train.seconds = 0.5
    line.store.prepare("lenet5")
    line.slow_s[:] = slow_s
    line.set("slow", only="runs/create")
    results = {}

    def start(machine: str) -> None:
        results[machine] = run._result(ask(line.store, sweep=sweep, machine=machine)).run_id

    machines = [threading.Thread(target=start, args=[name]) for name in ("one", "two")]
    for thread in machines:
        thread.start()
        time.sleep(0.02)  # so that it is known which is the older
    for thread in machines:
        thread.join(60)
    assert results["one"] == results["two"]
    assert_once(line.store, ["a"], sweep)


def test_surplus_results_are_discarded_and_the_oldest_stays(store, ask):
    first = run._result(ask(store)).run_id
    for _ in range(2):
        double = run._result(ask(store, rerun=True)).run_id
        MlflowClient(store.uri).delete_tag(double, "rerun")  # as if they had not been asked for
    assert run._result(ask(store)).run_id == first
    assert_once(store, ["a"])


# Copies are whole


@pytest.mark.parametrize("name", FILES)
def test_a_result_without_a_file_is_not_copied(store, ask, stub, capsys, name):
    source = run._result(ask(store, sweep="older")).run_id
    Reader(store).artifact(source, name).unlink()
    result = run._result(ask(store))
    assert f"a: the result of run {source} lacks {name}; it is trained again\n" in capsys.readouterr().out
    assert len(stub.trained) == 2 * EPOCHS
    assert result.error is None
    assert_once(store, ["a"])


def test_another_whole_result_is_copied(store, ask, stub):
    whole = run._result(ask(store, sweep="whole")).run_id
    damaged = run._result(ask(store, sweep="damaged", rerun=True)).run_id
    Reader(store).artifact(damaged, "model.npz").write_bytes(b"")
    run._result(ask(store))
    assert list(Reader(store).runs(tags={"sweep": "s"})["tags.copied_from"]) == [whole]
    assert_once(store, ["a"])


@pytest.mark.slow  # many seconds; .ci/run has it
def test_what_cannot_be_downloaded_from_a_server_is_trained_again(line, ask, stub, capsys):
    run._result(ask(line.store, sweep="older"))
    line.set("error", only="mlflow-artifacts/artifacts/1/")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ablations.tracking.store.PAUSES", ())
        run._result(ask(line.store, sweep="s"))
    assert "cannot be copied" in capsys.readouterr().out
    line.set("good")
    deliver()
    assert_once(line.store, ["a"])


def test_no_patience_is_lost_on_a_server_that_is_not_there():
    started = time.monotonic()
    with pytest.raises(AwayError):
        Store("http://127.0.0.1:9").require_answer()
    assert time.monotonic() - started < 0.5
