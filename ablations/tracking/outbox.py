"""What could not be sent to the store, kept on disk until it is delivered.

Each run that waits has a folder: `journal.jsonl`, to which every record is appended as one line of JSON, and the
files of its artifacts. Records are sent in their order, again where it is unknown whether they arrived: MLflow
keeps one of values that agree in name, step, time and value, and all else replaces what was there.
A run is created once because it carries its local id as a tag, for which the store is searched first.
"""

import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ablations.errors import InputError
from ablations.paths import MLRUNS
from ablations.tracking.store import LOCK_SECONDS, AwayError, Store, pages

if TYPE_CHECKING:
    from mlflow import MlflowClient

JOURNAL = "journal.jsonl"
LOCAL = "local-"
LOCAL_ID = "local_id"
"""The tag that ties a run in the store to the one that was started here."""

# MLflow's limits for one request.
ITEMS_PER_BATCH = 100
METRICS_PER_BATCH = 1000
CHARACTERS_PER_BATCH = 900_000

# How long a store that is away is left alone: twice as long each time, and long against what an attempt takes.
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
WAIT_PER_ATTEMPT = 10.0

Record = dict[str, Any]

log = logging.getLogger(__name__)


def outbox() -> Path:
    """Return the folder of what waits: ABLATIONS_OUTBOX, else `mlruns/outbox` of the project."""
    return Path(os.environ.get("ABLATIONS_OUTBOX") or MLRUNS / "outbox").absolute()


def new_local_id() -> str:
    """Return an id for a run that has none in the store yet."""
    return f"{LOCAL}{uuid.uuid4().hex}"


def send(store: Store, run_id: str, record: Record, files: Path | None = None) -> None:
    """Apply one record to a run in the store. A second time changes nothing.

    Raises AwayError where the store cannot be reached now, InputError where it refuses the record.
    """
    with store.client() as api:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

        match record["do"]:
            case "params":
                for batch in _batches(record["params"]):
                    api.log_batch(run_id, params=[Param(*item) for item in batch])
            case "tags":
                for batch in _batches(record["tags"]):
                    api.log_batch(run_id, tags=[RunTag(*item) for item in batch])
            case "metrics":
                values = record["metrics"]
                for start in range(0, len(values), METRICS_PER_BATCH):
                    batch = values[start : start + METRICS_PER_BATCH]
                    api.log_batch(run_id, metrics=[Metric(*item) for item in batch])
            case "dataset":
                tags = [InputTag("mlflow.data.context", record["context"])]
                api.log_inputs(run_id, datasets=[DatasetInput(Dataset(**record["dataset"]), tags)])
            case "files":
                api.log_artifacts(run_id, str(files))
            case "resume":
                _resume(api, run_id)
            case "end":
                api.set_terminated(run_id, record["status"], record["time_ms"])
            case other:
                raise InputError(f"the outbox holds a record of an unknown kind: {other!r}")


def create(store: Store, record: Record) -> str:
    """Create the run that a record describes and return its id. A second time makes a second run."""
    experiment_id = store.prepare(record["experiment"])
    with store.client() as api:
        run = api.create_run(experiment_id, record["time_ms"], record["tags"], record["name"])
    return run.info.run_id


def find_created(store: Store, local_id: str) -> list[str]:
    """Return the ids of the runs in the store that carry this local id, the oldest first."""
    with store.client() as api:
        experiments = [item.experiment_id for item in pages(api.search_experiments)]
        found = api.search_runs(experiments, f"tags.{LOCAL_ID} = '{local_id}'", order_by=["start_time"])
    return [run.info.run_id for run in found]


def check(record: Record) -> None:
    """Raise InputError for what every store would refuse, so that it is said now and not at the delivery."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException
    from mlflow.utils.validation import _validate_batch_log_data

    try:
        _validate_batch_log_data(
            [Metric(*item) for item in record.get("metrics", ())],
            [Param(*item) for item in record.get("params", {}).items()],
            [RunTag(*item) for item in record.get("tags", {}).items()],
        )
    except MlflowException as error:
        raise InputError(" ".join(str(error).split())) from error


def check_names(folder: Path) -> None:
    """Raise InputError where a file below `folder` has a name that not every store would keep as it is."""
    for path in folder.rglob("*"):
        check_name(path.relative_to(folder).as_posix())


def check_name(name: str) -> None:
    """Raise InputError for the name of an artifact that leaves its folder, or is no plain relative path."""
    path = PurePosixPath(name)
    plain = name.isprintable() and not set(name) & set("\\?#%:") and path.as_posix() == name
    if not plain or name == "." or path.is_absolute() or ".." in path.parts:
        raise InputError(
            f"artifact {name!r}: its name must be a relative path of printable characters without .. \\ ? # % :"
        )


class Outbox:
    """What one run could not send yet. Whoever holds this object has locked the folder.

    Raises InputError, in one line, where the folder cannot be written or its journal is damaged.
    """

    def __init__(self, folder: Path, journal: FileIO) -> None:
        self.folder = folder
        self._journal = journal
        header, self._records = self._read()
        self.local_id: str | None = header["local_id"]
        self.run_id: str | None = header["run_id"]
        self._delivered = 0
        for record in self._records:
            if record["do"] == "delivered":
                self._delivered, self.run_id = record["records"], record["run_id"]
        self._records = [record for record in self._records if record["do"] != "delivered"]

    @classmethod
    def new(cls, store: Store, run_id: str) -> "Outbox":
        """Make the folder of a run, by its id in the store or its local one."""
        name = uuid.uuid4().hex
        hidden = outbox() / f".new-{name}"
        try:
            hidden.mkdir(parents=True)
            journal = _open(hidden / JOURNAL, new=True)
            _lock(journal)
            ids = {"run_id": None, "local_id": run_id}
            if not run_id.startswith(LOCAL):
                ids = {"run_id": run_id, "local_id": None}
            header = {"uri": store.uri, **ids, "time": time.time()}
            _append(journal, header)
            os.replace(hidden, outbox() / name)  # nobody sees it before it is locked and whole
        except OSError as error:
            shutil.rmtree(hidden, ignore_errors=True)
            raise _cannot_keep(outbox(), error) from error
        return cls(outbox() / name, journal)

    @classmethod
    def claim(cls, folder: Path) -> "Outbox | None":
        """Lock a folder; None where another process has it, or it is gone."""
        try:
            journal = _open(folder / JOURNAL)
        except FileNotFoundError:
            shutil.rmtree(folder, ignore_errors=True)  # it was delivered, and its remover was stopped
            return None
        except OSError as error:
            raise _cannot_keep(folder, error) from error
        if not _lock(journal) or os.fstat(journal.fileno()).st_nlink == 0:  # it was delivered meanwhile
            journal.close()
            return None
        try:
            return cls(folder, journal)
        except BaseException:
            journal.close()
            raise

    @classmethod
    def find(cls, store: Store, run_id: str) -> "Outbox | None":
        """Lock what a run, by its id in the store or its local one, has left; None where it left nothing.

        Waits for a process that is delivering it.
        """
        for folder in waiting():
            if not _is_about(folder / JOURNAL, store, run_id):
                continue
            patient_until = time.monotonic() + LOCK_SECONDS
            while (found := cls.claim(folder)) is None and (folder / JOURNAL).exists():
                if time.monotonic() > patient_until:
                    raise InputError(f"the run {run_id} is being written by another process")
                time.sleep(0.05)
            return found
        return None

    def keep(self, record: Record, files: Path | None = None) -> None:
        """Append a record, with a copy of its folder of files."""
        copy = None
        try:
            if files is not None:
                copy = self.folder / f"files-{uuid.uuid4().hex}"
                shutil.copytree(files, copy, copy_function=_copy)
                record = record | {"files": copy.name}
            _append(self._journal, record)
        except (OSError, shutil.Error) as error:
            if copy is not None:
                shutil.rmtree(copy, ignore_errors=True)
            raise _cannot_keep(self.folder, error) from error
        self._records.append(record)

    @property
    def name(self) -> str:
        """What to call the run: its name where it is known here, else its id."""
        names = [record["name"] for record in self._records if record["do"] == "create"]
        return (names or [self.run_id or self.local_id or ""])[0]

    def deliver(self) -> None:
        """Send what is left, in order, then remove the folder.

        Raises AwayError where the store cannot be reached, InputError where it refuses a record; what was not
        sent is still there.
        """
        before = self._delivered
        try:
            if self.run_id is None:
                self.run_id = self._created()
                self._mark()
            while self._delivered < len(self._records):
                count, record = self._next()
                if record["do"] != "create":
                    files = self.folder / record["files"] if "files" in record else None
                    send(self.store, self.run_id, record, files)
                self._delivered += count
            self._delete_doubles()
        except BaseException as error:
            if self._delivered > before:
                self._mark()
            if isinstance(error, LookupError | TypeError | AttributeError):
                raise InputError(f"{self.folder / JOURNAL} is damaged: {error!r}") from error
            raise
        self.remove()

    def remove(self) -> None:
        """Delete the folder."""
        with suppress(OSError):  # what cannot be deleted is delivered again, which changes nothing
            (self.folder / JOURNAL).unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let go of the folder, so that another process may deliver it."""
        self._journal.close()

    def _mark(self) -> None:
        """Remember how far the delivery came."""
        with suppress(OSError):  # without it, more is sent again than need be
            _append(self._journal, {"do": "delivered", "records": self._delivered, "run_id": self.run_id})

    def _created(self) -> str:
        """The run's id in the store, where it may have been created although no answer came."""
        if self.local_id is None:
            raise InputError(f"{self.folder / JOURNAL} names no run")
        if found := find_created(self.store, self.local_id):
            return found[0]
        first = self._records[0] if self._records else {}
        if first.get("do") != "create":
            raise InputError(f"there is no run {self.local_id} in the store {self.store.uri}")
        return create(self.store, first)

    def _delete_doubles(self) -> None:
        """Delete the empty doubles that a stalled request to create the run has left behind."""
        if self._records and self._records[0]["do"] == "create" and self.local_id:
            for double in find_created(self.store, self.local_id):
                if double != self.run_id:
                    with self.store.client() as api:
                        api.delete_run(double)

    def _next(self) -> tuple[int, Record]:
        """The next record and how many it stands for: metrics that follow each other are sent together."""
        first = self._records[self._delivered]
        if first["do"] != "metrics":
            return 1, first
        count, values = 0, []
        for record in self._records[self._delivered :]:
            if record["do"] != "metrics" or (
                values and len(values) + len(record["metrics"]) > METRICS_PER_BATCH
            ):
                break
            count, values = count + 1, values + record["metrics"]
        return count, {"do": "metrics", "metrics": values}

    def _read(self) -> tuple[Record, list[Record]]:
        """Header and records. A last line that was cut off when its process was killed is dropped."""
        self._journal.seek(0)
        data = self._journal.readall()
        try:
            whole = _whole_lines(data)
            self._journal.truncate(len(whole))
            header, *records = [json.loads(line) for line in whole.splitlines()]
            known = header.keys() >= {"uri", "run_id", "local_id", "time"} and header["uri"]
            if not known or not all(isinstance(record.get("do"), str) for record in records):
                raise ValueError("a line lacks what every line has")
            if not all(_is_own(record.get("files", "files-")) for record in records):
                raise ValueError("it names files elsewhere")
            self.store = Store(header["uri"])
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{self.folder / JOURNAL} is damaged: {error}") from error
        return header, records


@dataclass(frozen=True)
class Delivery:
    """What became of one run that waited: delivered where `problem` is None."""

    store: Store | None
    run_id: str
    name: str
    folder: Path
    problem: str | None = None


def waiting() -> list[Path]:
    """Return the folders of the runs that wait, the oldest first; also those that are still being written.

    Raises InputError where the outbox cannot be read.
    """
    try:
        folders = [path for path in outbox().iterdir() if path.is_dir() and not path.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot read the outbox {outbox()}: {error.strerror}") from error
    return sorted(folders, key=_age)


def deliver(store: Store | None = None) -> list[Delivery]:
    """Deliver what runs left that have ended, to the store `store` alone where given; quick when there is nothing.

    What cannot be delivered stays, and is in the answer with its problem. Other processes may do the same.
    """
    done, away = [], {}
    for folder in waiting():
        try:
            left = Outbox.claim(folder)
        except InputError as error:
            if store is None:
                done.append(Delivery(None, "", folder.name, folder, str(error)))
            continue
        if left is None:
            if store is None and (folder / JOURNAL).exists():
                done.append(Delivery(None, "", folder.name, folder, "it is still being written"))
            continue
        if store not in (None, left.store):
            left.close()
            continue
        problem = away.get(left.store)
        try:
            if problem is None:
                left.store.probe()
                left.deliver()
        except InputError as error:
            problem = str(error)
            if isinstance(error, AwayError):
                away[left.store] = problem  # no need to wait for it once for each run
        left.close()
        done.append(Delivery(left.store, left.run_id or left.local_id or "", left.name, folder, problem))
    return done


class Patience:
    """When to try a store again that was away, for all runs of this process."""

    def __init__(self) -> None:
        self._failures = 0
        self._due = 0.0

    def over(self) -> bool:
        """Whether it is time to try."""
        return time.monotonic() >= self._due

    def failed(self, started: float) -> None:
        """Wait longer after an attempt that began at `started` (monotonic seconds) and failed."""
        now = time.monotonic()
        wait = min(FIRST_WAIT_SECONDS * 2**self._failures, LONGEST_WAIT_SECONDS)
        self._due = now + max(wait, WAIT_PER_ATTEMPT * (now - started))
        self._failures += 1

    def succeeded(self) -> None:
        """Begin anew."""
        self._failures, self._due = 0, 0.0


def _resume(api: "MlflowClient", run_id: str) -> None:
    from mlflow.exceptions import MlflowException

    api.update_run(run_id, status="RUNNING")
    for key in ("failure", "failure_reason"):
        try:
            api.delete_tag(run_id, key)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise


def _batches(items: Mapping[str, str]) -> Iterator[list[tuple[str, str]]]:
    """Blocks that MLflow takes in one request."""
    batch, size = [], 0
    for item in items.items():
        length = len(json.dumps(item)) + 50
        if batch and (len(batch) == ITEMS_PER_BATCH or size + length > CHARACTERS_PER_BATCH):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += length
    if batch:
        yield batch


def _open(journal: Path, new: bool = False) -> FileIO:
    """Open for appending, unbuffered: nothing of a line that failed is written later."""
    flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT | os.O_EXCL if new else 0)
    return FileIO(os.open(journal, flags, 0o666), "a+")


def _lock(journal: FileIO) -> bool:
    """Lock a journal until it is closed or this process ends, however it ends; False where another has it."""
    import fcntl

    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _is_about(journal: Path, store: Store, run_id: str) -> bool:
    """Whether a journal, which another process may be writing, is about this run."""
    try:
        lines = [json.loads(line) for line in _whole_lines(journal.read_bytes()).splitlines()]
        ids = {line.get(key) for line in lines for key in ("run_id", "local_id")}
        return lines[0].get("uri") == store.uri and run_id in ids
    except (OSError, ValueError, IndexError, AttributeError, TypeError):
        return False


def _append(journal: FileIO, record: Record) -> None:
    """Write one line, all of it or nothing, also against a power cut."""
    size = journal.seek(0, os.SEEK_END)
    line = memoryview(json.dumps(record).encode() + b"\n")
    try:
        while line:
            line = line[journal.write(line) :]
        os.fsync(journal.fileno())
    except OSError:
        with suppress(OSError):
            journal.truncate(size)
        raise


def _copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def _is_own(name: object) -> bool:
    return isinstance(name, str) and name.startswith("files-") and "/" not in name


def _age(folder: Path) -> tuple[float, str]:
    try:
        with open(folder / JOURNAL, "rb") as journal:
            return float(json.loads(journal.readline())["time"]), folder.name
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, folder.name


def _cannot_keep(folder: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or type(error).__name__
    return InputError(f"what the store did not take cannot be kept in {folder} either: {reason}")
