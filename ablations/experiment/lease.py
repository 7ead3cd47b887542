"""The sole right of one process to train one configuration.

It is a lock that the system releases however its holder ends, in the folder of the configuration's checkpoints. The
run that is trained names its holder in the tag `claim`, so that others can ask whether it is alive.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ablations.errors import InputError
from ablations.ground.lock import Lock

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
            return Lock.is_held(self.lock)
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
            lock = Lock.take(folder / LOCK)
            if lock is None:
                wait_for(Lock.holder(folder / LOCK))
                lock = Lock.take(folder / LOCK, wait=True)
        except FileNotFoundError:  # its last holder removed the folder just now
            continue
        except OSError as error:
            raise InputError(
                f"cannot write to the MLflow store's checkpoints in {folder.parent}: {error.strerror}"
            ) from error
        break
    try:
        lock.name_holder(str(os.getpid()))
        yield Lease(folder)
    finally:
        if {path.name for path in folder.iterdir()} == {LOCK}:
            lock.remove_folder()
        else:
            lock.close()
