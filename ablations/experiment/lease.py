"""The sole right of one process to train one configuration.

It is a lock that the kernel releases however its holder ends, in the folder of the configuration's checkpoints. The
run that is trained names its holder in the tag `claim`, so that others can ask whether it is alive.
"""

import fcntl
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ablations.errors import InputError

LOCK = "lock"
HOLDER_TAG = "claim"


@dataclass(frozen=True)
class Holder:
    """Who trains a configuration: a process on a host, and the lock that it holds."""

    host: str
    process: str
    lock: Path

    def __str__(self) -> str:
        return f"{self.host} {self.process} {self.lock}"

    @classmethod
    def parse(cls, text: str) -> "Holder":
        """What `str` made of one."""
        host, process, lock = text.split(" ", 2)
        return cls(host, process, Path(lock))

    def is_alive(self, asking: Path) -> bool | None:
        """Whether it is another process than the one that holds the lock `asking`, and trains; None: not on this
        machine, so that nobody here knows."""
        if self.host != socket.gethostname():
            return None
        if self.lock == asking:
            return False
        try:
            with open(self.lock) as lock:
                return not _locked(lock, blocking=False)
        except OSError:
            return False


class Lease:
    """The right to train what has its checkpoints in `folder`, held until the `leased` context ends."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lock = folder, folder / LOCK
        self.holder = Holder(socket.gethostname(), str(os.getpid()), self.lock)


@contextmanager
def leased(folder: Path, wait_for: Callable[[str], None]) -> Iterator[Lease]:
    """Take the lease of `folder`; `wait_for` is told the process that has it now, if there is one.

    The folder goes at the end where nothing but the lock is in it. Raises InputError where it cannot be made.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = open(folder / LOCK, "a+")  # noqa: SIM115
        except FileNotFoundError:  # its last holder removed the folder just now
            continue
        except OSError as error:
            raise InputError(
                f"cannot write to the MLflow store's checkpoints in {folder.parent}: {error.strerror}"
            ) from error
        with lock:
            if not _locked(lock, blocking=False):
                lock.seek(0)
                wait_for(lock.read())
                _locked(lock, blocking=True)
            if not _is_file(lock, folder / LOCK):
                continue
            lock.truncate(0)
            print(os.getpid(), end="", file=lock, flush=True)
            try:
                yield Lease(folder)
            finally:
                if {path.name for path in folder.iterdir()} == {LOCK}:
                    shutil.rmtree(folder)
            return


def _locked(lock: TextIO, blocking: bool) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _is_file(file: TextIO, path: Path) -> bool:
    """Whether an open file is still the one at `path`, and not one that was removed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
