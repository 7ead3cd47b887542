"""Stores that go away in the middle: nothing that was logged is lost, nothing is there twice."""

import errno
import json
import math
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from line import Line, locked
from mlflow import MlflowClient
from project import PATIENCE_S, wait_until

from ablations.errors import InputError
from ablations.ground.lock import Lock
from ablations.ground.paths import ROOT
from ablations.tracking import AwayError, Reader, Store, Tracker, deliver, journal, outbox, writer
from ablations.tracking.journal import JOURNAL
from ablations.tracking.store import PAUSES

pytestmark = pytest.mark.usefixtures("impatient")

EXPERIMENT = "lenet5"
PIXELS = bytes(range(256)) * 64

HOSTILE = (
    "../../../etc/passwd",
    "a | b || c\\|",
    "<script>alert(1)</script>",
    "two\nlines\r\nand a tab\t.",
    "'; DROP TABLE runs; --",
    "活性化 نموذج ẞ 🙂 e\u0301 \u202egnp",
    "\x1b[31mred\x07",
    "long " * 100,
    "%s %(x)d {0} ${HOME} `id`",
)


def waiting() -> list[Path]:
    return journal.waiting()


def sync(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ablations.sync", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)


def log_run(
    store: Store,
    name: str,
    folder: Path,
    epochs: int = 6,
    tags: dict[str, str] | None = None,
    **options: bool,
) -> Tracker:
    """A run with something of every kind; `assert_complete` knows what."""
    tracker = Tracker.start(
        store, EXPERIMENT, name, {"name": name, "n": epochs}, {"t": name, **(tags or {})}, **options
    )
    tracker.log_dataset("digits", "f" * 64, "train", profile={"images": 3})
    for epoch in range(1, epochs + 1):
        tracker.log_metrics({"loss": 1 / 3 / epoch, "bad": math.nan, "big": math.inf}, epoch)
        tracker.flush()
    folder.mkdir(exist_ok=True)
    (folder / "model.npz").write_bytes(PIXELS + name.encode())
    (folder / "deep").mkdir(exist_ok=True)
    (folder / "deep" / "note.txt").write_text(name, encoding="utf-8")
    tracker.log_files(folder)
    tracker.log_text(name, "texts/name.txt")
    tracker.set_tags({"late": name})
    tracker.finish()
    return tracker


def assert_complete(reader: Reader, store: Store, names: list[str], epochs: int = 6) -> None:
    runs = reader.runs(EXPERIMENT)
    assert sorted(runs["run_name"]) == sorted(names)
    assert set(runs["status"]) == {"FINISHED"}
    for column in ("params.name", "tags.t", "tags.late"):
        assert list(runs[column]) == list(runs["run_name"])
    assert set(runs["params.n"]) == {str(epochs)}
    histories = reader.histories(list(runs["run_id"]))
    assert len(histories) == len(names) * 3 * epochs
    for run_id, name in zip(runs["run_id"], runs["run_name"], strict=True):
        own = histories[histories["run_id"] == run_id]
        loss = own[own["metric"] == "loss"]
        assert list(loss["step"]) == list(range(1, epochs + 1))
        assert list(loss["value"]) == [1 / 3 / epoch for epoch in range(1, epochs + 1)]
        assert own[own["metric"] == "bad"]["value"].isna().all()
        assert (own[own["metric"] == "big"]["value"] == math.inf).all()
        assert reader.artifact(run_id, "model.npz").read_bytes() == PIXELS + name.encode()
        assert reader.artifact(run_id, "deep/note.txt").read_text("utf-8") == name
        assert reader.artifact(run_id, "texts/name.txt").read_text("utf-8") == name
        inputs = MlflowClient(store.uri).get_run(run_id).inputs.dataset_inputs
        assert [(item.dataset.name, item.tags[0].value) for item in inputs] == [("digits", "train")]


# Local stores.


def test_a_healthy_store_leaves_no_outbox(store, tmp_path):
    log_run(store, "run", tmp_path / "files")
    assert_complete(Reader(store), store, ["run"])
    assert not journal.outbox_folder().exists()


def test_a_locked_store_is_one_line_at_the_start_and_waited_for_in_the_middle(store, tmp_path, caplog):
    with locked(store):
        with pytest.raises(AwayError, match="locked") as caught:
            Tracker.start(store, EXPERIMENT, "alone", {}, {})
        assert "\n" not in str(caught.value)
        assert waiting() == []
        tracker = log_run(store, "in a sweep", tmp_path / "files", offline_ok=True)
        assert tracker.run_id.startswith("local-")
        assert len(waiting()) == 1
        assert "waits in" in caplog.text
        with pytest.raises(AwayError):
            store.prepare(EXPERIMENT)
    second = log_run(store, "the next", tmp_path / "others")  # delivers the first, too
    assert waiting() == []
    assert_complete(Reader(store), store, ["in a sweep", "the next"])
    assert not second.run_id.startswith("local-")


def test_it_is_delivered_at_a_later_flush(store):
    with locked(store):
        tracker = Tracker.start(store, EXPERIMENT, "run", {}, {}, offline_ok=True)
        tracker.log_metrics({"m": 1.0}, 1)
        tracker.flush()
    assert Reader(store).runs().empty
    tracker.log_metrics({"m": 2.0}, 2)
    tracker.flush()
    assert waiting() == []
    assert list(Reader(store).runs().run_id) == [tracker.run_id]
    assert list(Reader(store).histories([tracker.run_id]).step) == [1, 2]
    tracker.finish()
    assert list(Reader(store).runs().status) == ["FINISHED"]


@pytest.mark.slow  # MLflow itself waits for a lock for 20 s
def test_a_store_that_is_locked_in_the_middle(store, tmp_path):
    tracker = Tracker.start(store, EXPERIMENT, "run", {}, {})
    with locked(store):
        tracker.log_metrics({"m": 1.0}, 1)
        tracker.flush()
        assert len(waiting()) == 1
    tracker.finish()
    assert waiting() == []
    assert list(Reader(store).histories([tracker.run_id]).value) == [1.0]


def test_what_every_store_refuses_is_said_at_once(store):
    with locked(store):
        tracker = Tracker.start(store, EXPERIMENT, "run", {}, {}, offline_ok=True)
        tracker.log_metrics({"error (%)": 1.0}, 1)
        with pytest.raises(InputError, match="error") as caught:
            tracker.flush()
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match="a@b"):
            Tracker.start(store, EXPERIMENT, "bad param", {"a@b": 1}, {}, offline_ok=True)
        tracker.fail("error", "a bad name")
    assert [run.problem for run in deliver()] == [None, None]
    assert list(Reader(store).runs().status) == ["FAILED", "FAILED"]


def test_a_run_is_resumed_out_of_the_outbox(store):
    with locked(store):
        tracker = Tracker.start(store, EXPERIMENT, "run", {}, {"a": "b"}, offline_ok=True)
        local_id = tracker.run_id
        tracker.log_metrics({"m": 1.0}, 1, time_ms=1000)
        tracker.fail("interrupted", "SIGTERM")
        again = Tracker.resume(store, local_id, offline_ok=True)  # still away: what the first left goes on
        again.log_metrics({"m": 1.0}, 1, time_ms=1000)
        again.flush()
        again.fail("interrupted", "SIGTERM")
        assert len(waiting()) == 1
    assert [run.problem for run in deliver(store)] == [None]
    assert list(Reader(store).runs()["tags.failure"]) == ["interrupted"]
    third = Tracker.resume(store, local_id)  # by now in the store, where the local id still finds it
    assert list(Reader(store).runs().run_id) == [third.run_id]
    third.log_metrics({"m": 2.0}, 2, time_ms=2000)
    third.finish()
    with locked(store):
        fourth = Tracker.resume(store, local_id, offline_ok=True)  # delivered once, and away again
        fourth.set_tags({"fourth": "yes"})
        fourth.finish()
    assert [(run.run_id, run.problem) for run in deliver()] == [(third.run_id, None)]
    run = Reader(store).runs().iloc[0]
    assert (run.status, run["tags.a"], run["tags.fourth"]) == ("FINISHED", "b", "yes")
    assert "tags.failure" not in run
    assert list(Reader(store).histories([run.run_id]).value) == [1.0, 2.0]
    with pytest.raises(InputError, match="no run"):
        Tracker.resume(store, "local-of-nobody")


def test_a_process_that_was_killed_while_it_wrote(store):
    """Its last line is half there, its lock is gone; what was whole is delivered."""
    with locked(store):
        tracker = Tracker.start(store, EXPERIMENT, "run", {"p": 1}, {}, offline_ok=True)
        tracker.log_metrics({"m": 1.0}, 1)
        tracker.flush()
        (folder,) = waiting()
        assert [run.problem for run in deliver()] == ["it is still being written"]
        tracker._journal.close()
        with open(folder / JOURNAL, "ab") as file:
            file.write(b'{"do": "metrics", "metrics": [["m", 2.0, 17')
    again = Tracker.resume(store, tracker.run_id)
    assert waiting() == []
    assert list(Reader(store).runs()[["run_id", "status", "params.p"]].iloc[0]) == [
        again.run_id,
        "RUNNING",
        "1",
    ]
    assert list(Reader(store).histories([again.run_id]).value) == [1.0]


def test_a_process_that_was_killed_before_its_journal_was_whole(store):
    """Its folder goes with the next command, and not that of a process that lives."""
    killed, living = (journal.outbox_folder() / name for name in ("0123", "4567"))
    killed.mkdir(parents=True)
    (killed / journal.HEADING).write_bytes(b'{"uri')
    living.mkdir()
    lock = Lock.take(living / journal.LOCK)
    assert deliver() == []
    assert not killed.exists()
    assert living.exists()
    lock.close()
    Tracker.start(store, EXPERIMENT, "run", {}, {}).finish()
    assert list(journal.outbox_folder().iterdir()) == []


def test_a_folder_taken_for_a_killed_processs_before_it_is_locked_is_made_again(store, monkeypatch):
    """The moment between its making and its locking."""
    take, made = Lock.take, []

    def late(path, wait=False):
        made.append(path)
        if len(made) == 1:  # another process delivers
            assert deliver() == []
        return take(path, wait)

    monkeypatch.setattr(Lock, "take", late)
    with closing(journal.Journal.new(store, "an id")) as new:
        assert new.folder == made[-1].parent
        assert waiting() == [new.folder]


def test_a_damaged_journal_is_one_line_and_stays(store, tmp_path):
    with locked(store):
        log_run(store, "run", tmp_path / "files", offline_ok=True)
    (folder,) = waiting()
    file = folder / JOURNAL
    whole = file.read_bytes()
    generator = random.Random(6)
    problems = []
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(generator.randint(1, 8)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        file.write_bytes(data)
        try:
            journal.Journal.claim(folder).close()
        except InputError as error:
            problems.append(str(error))
    assert len(problems) > 100
    assert all(problem.startswith(f"{file} is damaged: ") for problem in problems)
    assert not any("\n" in problem for problem in problems)
    lines = whole.splitlines(keepends=True)
    for line in (
        b"[]\n",
        b"{}\n",
        b'{"do": 1}\n',
        b'{"do": "delivered"}\n',
        b'{"do": "delivered", "records": "two", "run_id": null}\n',
        b'{"do": "files", "files": "../../a"}\n',
        b'{"do": "files", "files": "files-/../../a"}\n',
        b'{"do": "metrics"}\n',
        b'{"do": "dance"}\n',
        b'{"do": "dataset", "context": "train", "dataset": {"surprise": 1}}\n',
    ):
        file.write_bytes(b"".join([*lines[:2], line, *lines[2:]]))
        (run,) = deliver()
        assert run.problem
        assert "\n" not in run.problem
    file.write_bytes(whole)
    assert [run.problem for run in deliver()] == [None]
    assert_complete(Reader(store), store, ["run"])


def test_nothing_grows_beyond_a_limit(store, tmp_path):
    """The database and its log may not grow, as on a disk that is full in the middle of a run."""
    tracker = Tracker.start(store, EXPERIMENT, "run", {}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        for step in range(1, 51):
            tracker.log_metrics({"m": step / 7}, step)
            tracker.flush()
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "small.bin").write_bytes(PIXELS)
        tracker.log_files(tmp_path / "files")
        tracker.finish()
        assert len(waiting()) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [run.problem for run in deliver()] == [None]
    history = Reader(store).histories([tracker.run_id])
    assert list(history.step) == list(range(1, 51))
    assert list(history.value) == [step / 7 for step in range(1, 51)]
    assert Reader(store).artifact(tracker.run_id, "small.bin").read_bytes() == PIXELS
    assert list(Reader(store).runs().status) == ["FINISHED"]


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    with suppress(OSError):
        if subprocess.run(mount, capture_output=True).returncode == 0:
            try:
                yield folder
            finally:
                subprocess.run(["umount", "-l", str(folder)], check=True)
            return
    pytest.skip("a small disk needs the right to mount one")


def fill(folder: Path) -> Path:
    """A file that leaves no byte free."""
    with open(folder / "filler", "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return folder / "filler"


def test_files_that_cannot_be_kept_say_why(store, tmp_path, monkeypatch):
    def no_room(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal, "_copy", no_room)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_text("a")
    said = pytest.raises(InputError, match=r"cannot be kept in \S+ either: .*No space left")
    with closing(journal.Journal.new(store, "an id")) as new, said:
        new.append({"do": "files"}, tmp_path / "files")


def test_a_full_disk(disk, copy_store, tmp_path, monkeypatch):
    store = copy_store(disk / "mlflow.db")
    filler = fill(disk)
    with pytest.raises(AwayError) as caught:
        Tracker.start(store, EXPERIMENT, "alone", {}, {})
    assert "\n" not in str(caught.value)
    log_run(store, "kept elsewhere", tmp_path / "files", offline_ok=True)
    assert len(waiting()) == 1
    monkeypatch.setenv("ABLATIONS_OUTBOX", str(disk / "outbox"))
    with pytest.raises(InputError, match=r"cannot be kept in .* either: No space left") as caught:
        Tracker.start(store, EXPERIMENT, "nowhere to go", {}, {}, offline_ok=True)
    assert "\n" not in str(caught.value)
    filler.unlink()
    monkeypatch.setenv("ABLATIONS_OUTBOX", str(tmp_path / "outbox"))
    assert [run.problem for run in deliver()] == [None]
    assert_complete(Reader(store), store, ["kept elsewhere"])


def test_a_disk_that_fills_up_in_the_middle(disk, copy_store, tmp_path, monkeypatch):
    """With the outbox on it, too: the run fails in one line; what had been kept is delivered all the same."""
    store = copy_store(disk / "mlflow.db")
    monkeypatch.setenv("ABLATIONS_OUTBOX", str(disk / "outbox"))
    monkeypatch.setattr(outbox, "WAIT_PER_ATTEMPT", 1000.0)
    with locked(store):
        tracker = Tracker.start(store, EXPERIMENT, "run", {}, {}, offline_ok=True)
        tracker.log_metrics({"m": 1.0}, 1)
        tracker.flush()
        filler = fill(disk)
        kept, problem = 1, ""
        while not problem and kept < 10_000:
            tracker.log_metrics({"m": float(kept + 1)}, kept + 1)
            try:
                tracker.flush()
            except InputError as error:
                problem = str(error)
            else:
                kept += 1
        assert problem.endswith("No space left on device")
        assert "\n" not in problem
        kept_lines = (waiting()[0] / JOURNAL).read_bytes()
        assert kept_lines.endswith(b"\n")
        assert kept_lines.count(b'"do": "metrics"') == kept
        filler.unlink()
        tracker.fail("error", problem)  # which logs what it still remembered
    assert [run.problem for run in deliver()] == [None]
    run = Reader(store).runs().iloc[0]
    assert list(Reader(store).histories([run.run_id]).step) == list(range(1, kept + 2))
    assert (run.status, run["tags.failure_reason"]) == ("FAILED", problem)


def test_a_store_that_becomes_read_only(disk, copy_store, tmp_path):
    store = copy_store(disk / "mlflow.db")
    tracker = Tracker.start(store, EXPERIMENT, "run", {}, {})
    again = ["mount", "-o", "remount,ro", str(disk)]
    MlflowClient(store.uri)._tracking_client.store.engine.dispose()  # an open log would keep the disk busy
    if subprocess.run(again, capture_output=True).returncode:
        pytest.skip("the disk cannot be made read-only")
    with pytest.raises(AwayError) as caught:
        Tracker.start(store, EXPERIMENT, "alone", {}, {})
    assert "\n" not in str(caught.value)
    tracker.log_metrics({"m": 1.0}, 1)
    tracker.flush()
    assert len(waiting()) == 1
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    tracker.finish()
    assert waiting() == []
    assert list(Reader(store).histories([tracker.run_id]).value) == [1.0]


# Names and texts that come from elsewhere.


def log_hostile(store: Store, folder: Path, offline_ok: bool = False) -> None:
    for number, text in enumerate(HOSTILE):
        params = {"text": text, "number": number, "long": text * 100}
        tracker = Tracker.start(store, EXPERIMENT, text, params, {"text": text}, offline_ok=offline_ok)
        tracker.log_text(text, "note.txt")
        tracker.fail("error", text)


def assert_hostile(reader: Reader) -> None:
    runs = reader.runs(EXPERIMENT).sort_values("params.number", key=lambda text: text.astype(int))
    assert list(runs["params.text"]) == list(HOSTILE)
    assert list(runs["tags.text"]) == list(HOSTILE)
    for (_, run), text in zip(runs.iterrows(), HOSTILE, strict=True):
        short = len(text) <= writer.NAME_CHARACTERS
        assert run["run_name"] == text if short else run["run_name"].startswith(text[:100])
        assert len(run["params.long"]) <= writer.PARAM_CHARACTERS
        assert run["tags.failure_reason"] == " ".join(text.split())[:500]
        assert reader.artifact(run["run_id"], "note.txt").read_bytes().decode() == text


def test_hostile_texts_are_texts(store, tmp_path):
    log_hostile(store, tmp_path)
    assert_hostile(Reader(store))


def test_hostile_texts_survive_the_outbox(store, tmp_path):
    with locked(store):
        log_hostile(store, tmp_path, offline_ok=True)
        names = {path.name for path in waiting()}
        assert len(names) == len(HOSTILE)
        assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in names)
    assert next(run.name for run in deliver()) == HOSTILE[0]
    assert_hostile(Reader(store))


def test_half_characters_of_a_command_line_are_stored(store):
    text = b"caf\xe9".decode("utf-8", "surrogateescape")
    Tracker.start(store, EXPERIMENT, text, {"p": text}, {"t": text}).finish()
    run = Reader(store).runs().iloc[0]
    assert [run["run_name"], run["params.p"], run["tags.t"]] == ["caf\\udce9"] * 3


@pytest.mark.parametrize(
    "name",
    [
        "../out.txt",
        "a/../../out.txt",
        "/tmp/out.txt",
        "a//b",
        "",
        ".",
        "..",
        "a\\b",
        "a\nb",
        "a%2e",
        "a?b",
        "x" * 300,
    ],
)
def test_artifacts_do_not_leave_their_folder(store, tmp_path, name):
    def files() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if not path.name.startswith("mlflow.db")}

    tracker = Tracker.start(store, EXPERIMENT, "run", {}, {})
    before = files()
    with pytest.raises(InputError, match="artifact") as caught:
        tracker.log_text("text", name)
    assert "\n" not in str(caught.value)
    assert files() == before


# A server behind a line that fails.


@pytest.mark.slow  # many seconds; .ci/run has it
def test_the_same_metrics_twice_are_there_once(line, tmp_path):
    """What the delivery rests on: MLflow keeps one of equal values, over HTTP, too."""
    tracker = Tracker.start(line.store, EXPERIMENT, "run", {}, {})
    for _ in range(2):
        for step in (1, 2):
            tracker.log_metrics({"m": 0.1, "n": math.nan, "i": -math.inf}, step, time_ms=1000 * step)
        tracker.log_metrics({"m": 0.1}, 1, time_ms=1000)
        tracker.flush()
    history = Reader(line.store).histories([tracker.run_id])
    assert len(history) == 6
    assert list(history[history.metric == "m"].value) == [0.1, 0.1]


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(6, marks=pytest.mark.slow),
        *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(100, 120)),
    ],
)
def test_a_line_that_fails_in_every_way(line, tmp_path, seed):
    line.seed = seed
    names = [f"run {number}" for number in range(6)]
    line.set("flaky")
    for name in names:
        log_run(line.store, name, tmp_path / "files", offline_ok=True)
    deliver()
    assert all(line.counts.get(fault) for fault in Line.FAULTS), line.counts
    line.set("good")
    assert all(run.problem is None for run in deliver())
    assert waiting() == []
    assert_complete(Reader(line.store), line.store, names)


@pytest.mark.parametrize("fault", Line.FAULTS)
def test_the_creation_of_a_run_fails(line, fault):
    """Whether or not it arrived, there is one run afterwards."""
    line.set(fault, only="runs/create")
    tracker = Tracker.start(line.store, EXPERIMENT, "run", {"a": 1}, {}, offline_ok=True)
    assert tracker.run_id.startswith("local-")
    assert line.counts[fault] == 1  # MLflow itself does not send it again
    line.set("good")
    if fault == "stall":  # the request arrives when nobody waits for its answer any more
        wait_until(lambda: len(Reader(line.store).runs()), "the request")
    assert len(Reader(line.store).runs()) == (fault in ("lose", "stall"))
    tracker.log_metrics({"m": 1.0}, 1)
    tracker.finish()
    assert waiting() == []
    columns = ["run_id", "run_name", "status", "params.a"]
    runs = Reader(line.store).runs()[columns].values.tolist()
    assert runs == [[tracker.run_id, "run", "FINISHED", "1"]]


def test_a_double_that_arrives_late_is_deleted(line, monkeypatch):
    """As where a stalled request creates the run after the delivery has created it again."""
    line.set("drop")
    tracker = Tracker.start(line.store, EXPERIMENT, "run", {}, {}, offline_ok=True)
    tags = {"local_id": tracker.run_id}
    line.set("good")
    send, api = outbox.send, MlflowClient(line.store.uri)

    def send_late(*arguments: object) -> None:
        monkeypatch.setattr(outbox, "send", send)
        api.create_run(api.get_experiment_by_name(EXPERIMENT).experiment_id, tags=tags)
        send(*arguments)

    monkeypatch.setattr(outbox, "send", send_late)
    tracker.finish()
    assert outbox.send is send
    assert list(Reader(line.store).runs().run_id) == [tracker.run_id]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["refuse", "error", pytest.param("stall", marks=pytest.mark.slow)])
def test_a_server_that_is_away_from_start_to_end(line, tmp_path, fault, monkeypatch):
    monkeypatch.setattr(outbox, "WAIT_PER_ATTEMPT", 1000.0)  # one attempt fails, the others wait
    line.set(fault)
    with pytest.raises(AwayError) as caught:
        Tracker.start(line.store, EXPERIMENT, "alone", {}, {})
    assert "\n" not in str(caught.value)
    names = ["first", "second"]
    line.counts.clear()
    for name in names:
        log_run(line.store, name, tmp_path / "files", offline_ok=True)
    attempts = 3  # at the first start, and at each end
    assert sum(line.counts.values()) <= attempts * (1 + len(PAUSES))
    assert len(waiting()) == 2
    if fault == "refuse":
        failed = sync("--tracking-uri", line.store.uri)
        assert (failed.returncode, failed.stdout) == (1, "")
        problems = failed.stderr.splitlines()
        assert [text.split(",")[0] for text in problems] == [
            "not delivered 'first'",
            "not delivered 'second'",
        ]
        assert all("no MLflow server answers" in text for text in problems)
    line.set("good")
    if fault == "refuse":
        assert sync("--tracking-uri", "http://127.0.0.1:9").stdout.startswith("nothing waits")
        done = sync()
        assert (done.returncode, done.stderr) == (0, "")
        delivered = done.stdout.splitlines()
        assert [text.split(":")[0] for text in delivered] == ["delivered 'first'", "delivered 'second'"]
    else:
        assert [run.problem for run in deliver()] == [None, None]
    assert_complete(Reader(line.store), line.store, names)
    assert waiting() == []


@pytest.mark.slow
def test_hostile_texts_over_the_network(line, tmp_path):
    log_hostile(line.store, tmp_path)
    assert_hostile(Reader(line.store))


def test_sync_explains_itself():
    done = sync("--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout


def test_no_pickle_in_the_outbox(store, tmp_path):
    with locked(store):
        log_run(store, "run", tmp_path / "files", offline_ok=True)
    (folder,) = waiting()
    for line in (folder / JOURNAL).read_text("ascii").splitlines():
        assert isinstance(json.loads(line), dict)
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {
        JOURNAL,
        journal.LOCK,
        "model.npz",
        "note.txt",
        "name.txt",
    }
