"""What one run could not send, on disk: a folder with `journal.jsonl`, one record a line, and copies of its files."""

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from ablations import ground
from ablations.errors import InputError
from ablations.ground.lock import Lock
from ablations.ground.paths import LOCK, MLRUNS
from ablations.tracking.sending import Record
from ablations.tracking.store import LOCK_SECONDS, Store

JOURNAL, HEADING = "journal.jsonl", "journal.jsonl.new"
LOCAL = "local-"
"""How the id begins of a run that has none in the store yet."""


def outbox_folder() -> Path:
    """Return the folder of what waits: ABLATIONS_OUTBOX, else `mlruns/outbox` of the project."""
    return Path(os.environ.get("ABLATIONS_OUTBOX") or MLRUNS / "outbox").absolute()


def waiting() -> list[Path]:
    """Return the folders of the runs that wait, the oldest first; also those that are still being written.

    Raises InputError where the outbox cannot be read.
    """
    outbox = outbox_folder()
    try:
        folders = [path for path in outbox.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot read the outbox {outbox}: {error.strerror}") from error
    return sorted(folders, key=_age)


def kept(store: Store) -> Iterator["Content"]:
    """What runs left that is to go to this store, the oldest first; also what is still being written.

    A journal that cannot be read is passed over here: whoever delivers it says so.
    """
    for folder in waiting():
        content = _read(folder)
        if content is not None and content.store == store:
            yield content


@dataclass
class Content:
    """What a journal says.

    Attributes:
        store: where it is to go.
        local_id: the run's id before it was in the store, in its tag `local_id` there; None for one that has none.
        run_id: its id in the store, None before it is known to be there.
        records: what to do, in order.
        delivered: how many of them the store has.
    """

    store: Store
    local_id: str | None
    run_id: str | None
    records: list[Record]
    delivered: int = 0

    @classmethod
    def parse(cls, data: bytes) -> "Content":
        """From whole lines. Raises ValueError, AttributeError, KeyError or TypeError for those of another kind."""
        header, *records = [json.loads(line) for line in data.splitlines()]
        known = header.keys() >= {"uri", "run_id", "local_id", "time"} and header["uri"]
        if not known or not all(isinstance(record.get("do"), str) for record in records):
            raise ValueError("a line lacks what every line has")
        if not all(_is_own(record.get("files", "files-")) for record in records):
            raise ValueError("it names files elsewhere")
        content = cls(Store(header["uri"]), header["local_id"], header["run_id"], [])
        for record in records:
            if record["do"] == "delivered":
                content.delivered, content.run_id = int(record["records"]), record["run_id"]
            else:
                content.records.append(record)
        return content

    @property
    def creation(self) -> Record | None:
        """The record that makes the run, where the store may not have it yet."""
        return self.records[0] if self.records and self.records[0]["do"] == "create" else None

    def is_about(self, run_id: str, local_id: str | None = None) -> bool:
        """Whether it is of this run, by its ids; `run_id` may be a local one.

        Runs of one local id are doubles of each other, of which the one with the journal's id is meant.
        """
        if self.run_id is not None and not run_id.startswith(LOCAL):
            return self.run_id == run_id
        return self.local_id is not None and self.local_id in (run_id, local_id)


class Journal(Content):
    """What one run could not send yet. Whoever holds this object has locked its folder, by the file `lock` there.

    Raises InputError, in one line, where the folder cannot be written or its journal is damaged.

    Attributes:
        folder: with the records and the files.
    """

    def __init__(self, folder: Path, lock: Lock) -> None:
        self.folder = folder
        self._lock = lock
        self._file = file = FileIO(
            folder / JOURNAL, "r+"
        )  # unbuffered: nothing of a failed line is written later
        data = file.readall()
        try:
            whole = _whole_lines(data)
            file.truncate(len(whole))  # of a last line that was cut off when its process was killed
            super().__init__(**vars(Content.parse(whole)))
        except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
            raise self.damage(error) from error

    @classmethod
    def new(cls, store: Store, run_id: str, local_id: str | None = None) -> "Journal":
        """Make the folder of a run, by its id in the store, its local one, or both."""
        outbox = outbox_folder()
        local = run_id.startswith(LOCAL)
        ids = {"run_id": None if local else run_id, "local_id": run_id if local else local_id}
        try:
            folder, lock = _locked_folder(outbox)
            with FileIO(folder / HEADING, "x+") as file:
                _append(file, {"uri": store.shown, **ids, "time": time.time()})
            ground.replace(folder / HEADING, folder / JOURNAL)  # nobody sees it before it is locked and whole
            ground.sync_folder(folder)
            ground.sync_folder(outbox)
        except OSError as error:
            raise _cannot_keep(outbox, error) from error
        return cls(folder, lock)

    @classmethod
    def claim(cls, folder: Path) -> "Journal | None":
        """Lock a folder; None where another process has it, or it is gone."""
        try:
            lock = Lock.take(folder / LOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _cannot_keep(folder, error) from error
        if lock is None:
            return None
        try:
            return cls(folder, lock)
        except FileNotFoundError:  # not begun, or delivered, by a process that was killed
            lock.remove_folder()
            return None
        except OSError as error:
            lock.close()
            raise _cannot_keep(folder, error) from error
        except BaseException:
            lock.close()
            raise

    @classmethod
    def find(cls, store: Store, run_id: str, local_id: str | None = None) -> "Journal | None":
        """Lock what a run, by its id in the store, its local one, or both, has left; None where it left nothing.

        Waits for a process that is delivering it.
        """
        for folder in waiting():
            content = _read(folder)
            if content is None or content.store != store or not content.is_about(run_id, local_id):
                continue
            patient_until = time.monotonic() + LOCK_SECONDS
            while (found := cls.claim(folder)) is None and (folder / JOURNAL).exists():
                if time.monotonic() > patient_until:
                    raise InputError(f"the run {run_id} is being written by another process")
                time.sleep(0.05)
            return found
        return None

    def append(self, record: Record, files: Path | None = None) -> None:
        """Add a record, with a copy of its folder of files."""
        copy = None
        try:
            if files is not None:
                copy = self.folder / f"files-{uuid.uuid4().hex}"
                shutil.copytree(files, copy, copy_function=_copy)
                record = record | {"files": copy.name}
            _append(self._file, record)
        except (OSError, shutil.Error) as error:
            if copy is not None:
                shutil.rmtree(copy, ignore_errors=True)
            raise _cannot_keep(self.folder, error) from error
        self.records.append(record)

    def mark(self) -> None:
        """Remember how far the delivery came."""
        with suppress(OSError):  # without it, more is sent again than need be
            _append(self._file, {"do": "delivered", "records": self.delivered, "run_id": self.run_id})

    @property
    def name(self) -> str:
        """What to call the run: its name where it is known here, else its id."""
        return self.creation["name"] if self.creation else self.run_id or self.local_id or ""

    def files(self, record: Record) -> Path | None:
        """The copies of a record's files."""
        return self.folder / record["files"] if "files" in record else None

    def damage(self, what: object) -> InputError:
        """The error of a journal that cannot be read or followed."""
        return InputError(f"{self.folder / JOURNAL} is damaged: {what}")

    def remove(self) -> None:
        """Delete the folder."""
        self._file.close()
        with suppress(OSError):  # what cannot be deleted is delivered again, which changes nothing
            (self.folder / JOURNAL).unlink()
        self._lock.remove_folder()

    def close(self) -> None:
        """Let go of the folder, so that another process may deliver it."""
        self._file.close()
        self._lock.close()


def _locked_folder(outbox: Path) -> tuple[Path, Lock]:
    """A new folder, and the lock of it."""
    while True:
        folder = outbox / uuid.uuid4().hex
        folder.mkdir(parents=True)
        with suppress(FileNotFoundError):  # somebody took it, empty as it is, for what a killed process left
            if lock := Lock.take(folder / LOCK):
                return folder, lock


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _read(folder: Path) -> Content | None:
    """What a journal says that another process may be writing; None where that cannot be read."""
    try:
        return Content.parse(_whole_lines((folder / JOURNAL).read_bytes()))
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None


def _append(journal: FileIO, record: Record) -> None:
    """Write one line, all of it or nothing, also against a power cut."""
    size = journal.seek(0, os.SEEK_END)
    line = memoryview(json.dumps(record).encode() + b"\n")
    try:
        while line:
            line = line[journal.write(line) :]
        ground.sync(journal)
    except OSError:
        with suppress(OSError):
            journal.truncate(size)
        raise


def _copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    with open(target, "r+b") as file:  # Windows puts nothing on the disk that it may not write to
        ground.sync(file)


def _is_own(name: object) -> bool:
    return isinstance(name, str) and name.startswith("files-") and "/" not in name


def _age(folder: Path) -> tuple[float, str]:
    try:
        with open(folder / JOURNAL, "rb") as journal:
            return float(json.loads(journal.readline())["time"]), folder.name
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, folder.name


def _cannot_keep(folder: Path, error: Exception) -> InputError:
    if isinstance(error, shutil.Error):  # of a folder: source, target and reason of each file
        reason = str(error.args[0][0][2])
    else:
        reason = getattr(error, "strerror", None) or type(error).__name__
    return InputError(f"what the store did not take cannot be kept in {folder} either: {reason}")
