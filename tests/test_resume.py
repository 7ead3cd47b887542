"""What is left to do when a command is given again: the decision, and the store's side of it."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from ablations.experiment.checkpoints import Checkpoint
from ablations.experiment.lease import leased
from ablations.experiment.resume import (
    Adopt,
    Copy,
    Train,
    decide,
    has_result,
    is_trained_elsewhere,
    leftovers,
    may_go_on,
    stays,
    without_store,
)
from ablations.tracking import Reader, Store, Tracker
from ablations.tracking.earlier import EarlierRun, earlier_runs, last_epoch, log_copied, results
from ablations.training.loop import State


def a_run(run_id: str, status: str, sweep: str | None = "s", **tags: str) -> EarlierRun:
    return EarlierRun(run_id, status, {}, {}, tags if sweep is None else {"sweep": sweep, **tags})


def a_checkpoint(run_id: str, epoch: int = 3) -> Checkpoint:
    return Checkpoint({}, run_id, State(epoch, 0, np.zeros(1), {}, {}), [])


FINISHED, DIVERGED = a_run("finished", "FINISHED"), a_run("diverged", "FAILED", failure="diverged")
ORPHAN, FAILED = a_run("orphan", "RUNNING"), a_run("failed", "FAILED", failure="error")
ELSEWHERE = a_run("elsewhere", "FINISHED", "another")
OF_NO_SWEEP = a_run("of no sweep", "FINISHED", None)

NOTHING: dict[str, int] = {}


def test_nothing_there_is_a_new_run():
    assert decide([], NOTHING, "s", None, rerun=False) == Train()


@pytest.mark.parametrize("done", [FINISHED, DIVERGED])
def test_a_result_is_used(done):
    assert decide([done], NOTHING, "s", None, rerun=False) == Adopt(done)


@pytest.mark.parametrize("done", [FINISHED, DIVERGED])
def test_a_result_is_not_used_where_it_is_to_be_made_again(done):
    assert decide([done], NOTHING, "s", None, rerun=True) == Train()


@pytest.mark.parametrize("done", [ELSEWHERE, OF_NO_SWEEP])
def test_a_result_of_another_sweep_is_copied(done):
    assert decide([done], NOTHING, "s", None, rerun=False) == Copy(done)


@pytest.mark.parametrize("done", [ELSEWHERE, OF_NO_SWEEP])
def test_a_run_of_its_own_is_content_with_any_result(done):
    assert decide([done], NOTHING, None, None, rerun=False) == Adopt(done)


def test_ones_own_result_comes_first():
    assert decide([ELSEWHERE, FINISHED], NOTHING, "s", None, rerun=False) == Adopt(FINISHED)


@pytest.mark.parametrize("run", [ORPHAN, FAILED])
def test_an_unfinished_run_goes_on_from_its_checkpoint(run):
    saved = a_checkpoint(run.run_id)
    assert decide([run], {run.run_id: 3}, "s", saved, rerun=False) == Train(saved, run)
    assert decide([run], {run.run_id: 0}, "s", None, rerun=False) == Train(None, run)


def test_a_run_that_was_started_while_the_store_was_away_is_known_by_its_local_id():
    run = a_run("orphan", "RUNNING", local_id="local-1")
    saved = a_checkpoint("local-1")
    assert decide([run], {"orphan": 3}, "s", saved, rerun=False).into == run


@pytest.mark.parametrize(
    "checkpoint",
    [None, a_checkpoint("orphan", epoch=2), a_checkpoint("elsewhere")],
    ids=["no", "old", "foreign"],
)
def test_where_epochs_would_be_there_twice_a_new_run_takes_the_place(checkpoint):
    """The store knows three epochs that the checkpoint knows nothing of, with times of their own."""
    found = decide([ORPHAN], {"orphan": 3}, "s", checkpoint, rerun=False)
    assert found == Train(checkpoint)
    assert leftovers([ORPHAN], "s", found) == ([ORPHAN], [])


def test_one_unfinished_run_is_enough():
    runs = [a_run("newest", "RUNNING"), ORPHAN, FAILED]
    found = decide(runs, {"newest": 0, "orphan": 3, "failed": 0}, "s", None, rerun=False)
    assert found == Train(None, runs[0])
    assert leftovers(runs, "s", found) == ([ORPHAN, FAILED], [])
    assert leftovers([ORPHAN, FINISHED], "s", Adopt(FINISHED)) == ([ORPHAN], [])


def test_a_copy_that_was_interrupted_is_made_again():
    begun = a_run("begun", "RUNNING", copied_from="elsewhere")
    runs = [begun, ELSEWHERE]
    assert decide(runs, {"begun": 7}, "s", None, rerun=False) == Copy(ELSEWHERE, begun)
    # But not on top of what a training has logged, and a training does not go on in a copy.
    found = decide([ORPHAN, ELSEWHERE], {"orphan": 3}, "s", None, rerun=False)
    assert found == Copy(ELSEWHERE)
    assert leftovers([ORPHAN, ELSEWHERE], "s", found) == ([ORPHAN], [])
    found = decide([begun], {"begun": 0}, "s", None, rerun=False)
    assert found == Train()
    assert leftovers([begun], "s", found) == ([begun], [])


def test_orphans_of_other_sweeps_are_named():
    lost = a_run("lost", "RUNNING", "another")
    assert decide([lost], {"lost": 0}, "s", None, rerun=False) == Train()
    assert leftovers([lost], "s", Train()) == ([], [lost])
    assert leftovers([lost, FINISHED], "s", Adopt(FINISHED)) == ([], [lost])


def test_without_the_store_the_checkpoint_says_which_run():
    assert without_store([], "s", None) == []
    (known,) = without_store([], "s", a_checkpoint("known"))
    assert decide([known], {"known": 0}, "s", a_checkpoint("known"), rerun=False).into is known
    assert known.params is None
    kept = a_run("x", "RUNNING", local_id="known")
    assert without_store([kept], "s", a_checkpoint("known")) == [kept]


def test_the_oldest_result_stays():
    older, newer = a_run("older", "FINISHED"), a_run("newer", "FINISHED")
    asked_for = a_run("asked for", "FINISHED", rerun="true")
    assert decide([newer, older], NOTHING, "s", None, rerun=False) == Adopt(older)
    assert leftovers([newer, older, ELSEWHERE], "s", Adopt(older)) == ([newer], [])
    assert leftovers([asked_for, older], "s", Adopt(older)) == ([], [])
    assert leftovers([FINISHED, DIVERGED], "s", Adopt(FINISHED)) == ([DIVERGED], [])


def test_of_the_runs_of_one_local_id_the_one_that_is_written_to_goes_on():
    empty = a_run("empty", "RUNNING", local_id="local-1")
    begun = replace(a_run("begun", "RUNNING", local_id="local-1"), metrics={"train/loss": 1.0})
    saved = a_checkpoint("local-1")
    for runs in ([empty, begun], [begun, empty]):
        found = decide(runs, {"empty": 0, "begun": 3}, "s", saved, rerun=False)
        assert found == Train(saved, begun)
        assert leftovers(runs, "s", found) == ([empty], [])


def test_what_waits_is_the_run_to_go_on_with_and_is_not_copied():
    newer, waits = a_run("newer", "RUNNING"), replace(ORPHAN, kept=[{"do": "resume"}])
    assert decide([newer, waits], {"newer": 0, "orphan": 0}, "s", None, rerun=False).into == waits
    there = replace(ELSEWHERE, kept=[{"do": "resume"}])
    assert decide([there], NOTHING, "s", None, rerun=False) == Train()
    assert decide([there], NOTHING, None, None, rerun=False) == Adopt(there)
    assert decide([ELSEWHERE], NOTHING, "s", None, rerun=False, unusable=["elsewhere"]) == Train()


def test_a_run_that_another_machine_began_is_replaced():
    assert decide([ORPHAN], NOTHING, "s", None, rerun=False) == Train()


def test_which_of_those_that_begin_at_the_same_moment_stays():
    runs = [a_run(name, "RUNNING", local_id=name) for name in ("newest", "middle", "oldest")]

    def staying(*alive: str, rerun: bool = False, more: Sequence[EarlierRun] = ()) -> list[str]:
        found = [*more, *runs]
        return [run for run in alive if stays(run, found, "s", lambda each: each.run_id in alive, rerun)]

    assert staying("newest", "middle", "oldest") == ["oldest"]
    assert staying("newest", "middle") == ["middle"]
    assert staying("newest", more=[FINISHED]) == []
    assert staying("newest", more=[FINISHED], rerun=True) == ["newest"]
    assert staying("newest", more=[ELSEWHERE]) == ["newest"]
    assert stays("not there", runs, "s", lambda _: True, rerun=False)


def test_only_finished_and_diverged_runs_have_a_result():
    runs = [
        FINISHED,
        DIVERGED,
        ORPHAN,
        FAILED,
        a_run("x", "FAILED", failure="interrupted"),
        a_run("y", "KILLED"),
    ]
    assert [has_result(run) for run in runs] == [True, True, False, False, False, False]


def test_who_is_trained_elsewhere(tmp_path):
    own = tmp_path / "own"
    with leased(tmp_path / "other checkout", pytest.fail) as lease:
        running = a_run("x", "RUNNING", claim=str(lease.holder))
        assert is_trained_elsewhere(running, own, 30)
        assert not is_trained_elsewhere(running, lease.lock, 30)  # by oneself, that is
        assert not is_trained_elsewhere(a_run("x", "FAILED", claim=str(lease.holder)), own, 30)
        assert may_go_on(running, lease.lock)
        assert not may_go_on(running, own)
    assert not is_trained_elsewhere(running, own, 30)
    assert not is_trained_elsewhere(a_run("x", "RUNNING"), own, 30)
    assert may_go_on(a_run("x", "RUNNING"), own)
    assert not may_go_on(a_run("x", "RUNNING", claim=f"another-machine 7 {own}"), own)


@pytest.mark.parametrize(("ago_s", "lives"), [(0, True), (290, True), (310, False)])
def test_on_another_machine_the_heartbeat_tells(ago_s, lives, tmp_path):
    beat = str(round((time.time() - ago_s) * 1000))
    run = a_run("x", "RUNNING", claim="another-machine 7 /a/lock", heartbeat=beat)
    assert is_trained_elsewhere(run, tmp_path, 30) is lives
    assert not is_trained_elsewhere(a_run("x", "RUNNING", claim="another-machine 7 /a/lock"), tmp_path, 30)


# The store's side


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}")
    store.prepare("e")
    return store


def log_epochs(tracker: Tracker, epochs: range) -> None:
    for epoch in epochs:
        tracker.log_metrics(
            {"train/loss": 1 / epoch, "val/loss": float("nan"), "x": float("inf")}, epoch, 1000 + epoch
        )
    tracker.flush()


def logged(store: Store, run_id: str) -> list[tuple[str, int]]:
    return [tuple(row) for row in Reader(store).histories([run_id])[["metric", "step"]].to_numpy()]


def test_metrics_that_are_sent_again_are_there_once(store):
    """All of them, one by one, and mixed with new ones: numbers, infinities and what is no number."""
    tracker = Tracker.start(store, "e", "twice", {}, {})
    log_epochs(tracker, range(1, 4))
    log_epochs(tracker, range(1, 4))
    log_epochs(tracker, range(2, 3))
    log_epochs(tracker, range(1, 6))
    assert logged(store, tracker.run_id) == [
        (metric, epoch) for metric in ("train/loss", "val/loss", "x") for epoch in range(1, 6)
    ]
    assert last_epoch(store, a_run(tracker.run_id, "RUNNING"), "train/loss") == 5
    assert last_epoch(store, a_run(tracker.run_id, "RUNNING"), "never/logged") == 0


def test_earlier_runs_are_found_by_their_tags(store):
    ids = []
    for status in ("FAILED", "FINISHED"):
        tracker = Tracker.start(store, "e", "found", {"p": 1}, {"config_hash": "c", "note": "n"})
        log_epochs(tracker, range(1, 3))
        tracker.finish() if status == "FINISHED" else tracker.fail("error", "why")
        ids.append(tracker.run_id)
        time.sleep(0.002)  # the order is that of the start, in milliseconds
    Tracker.start(store, "e", "other", {}, {"config_hash": "another"}).finish()
    newest, oldest = earlier_runs(store, "e", {"config_hash": "c", "note": "n"})
    assert [oldest.run_id, newest.run_id] == ids
    assert (newest.status, oldest.status) == ("FINISHED", "FAILED")
    assert newest.params == {"p": "1"}
    assert newest.metrics["train/loss"] == 0.5
    assert "failure" not in newest.tags
    assert (oldest.tags["failure"], oldest.tags["failure_reason"]) == ("error", "why")
    store.discard(ids[1])
    assert [run.run_id for run in earlier_runs(store, "e", {"config_hash": "c"})] == ids[:1]


def test_a_copy_has_all_metrics_and_artifacts_once(store, tmp_path):
    source = Tracker.start(store, "e", "source", {}, {})
    log_epochs(source, range(1, 4))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "model.npz").write_bytes(bytes(range(256)))
    source.log_files(tmp_path)
    source.finish()
    copy = Tracker.start(store, "e", "copy", {}, {"copied_from": source.run_id})
    for _ in range(2):  # as after an interruption
        with results(store, source.run_id, ["x"], ["deep/model.npz"]) as copied:
            log_copied(copied, copy)
    copy.finish()
    reader = Reader(store)
    histories = [reader.histories([run.run_id]).drop(columns="run_id") for run in (source, copy)]
    assert histories[0].equals(histories[1])
    assert len(histories[1]) == 9
    copied = reader.artifact(copy.run_id, "deep/model.npz")
    assert source.run_id not in str(copied)
    assert copied.read_bytes() == bytes(range(256))
