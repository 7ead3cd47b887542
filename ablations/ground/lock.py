"""The sole right of one process to something, by a lock that the system releases however its holder ends."""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ablations import ground

FAR = 2**30
"""The byte that is locked: on Windows nobody else can read what is locked, and the file has text in it."""

TRY_S = 0.05
"""How often Windows, which has no lock to wait for without end, is asked again."""


class Lock:
    """A locked file, which may name its holder.

    It may be removed with the folder that it is in: who waited for it then learns that it is gone.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file

    @classmethod
    def take(cls, path: Path, wait: bool = False) -> "Lock | None":
        """Lock a file, which is made where it is missing; None where another process has it, and none is waited for.

        Raises OSError where it cannot be made or locked; FileNotFoundError where its folder is not there, or gone
        when the lock was to be had.
        """
        file = open(path, "a+b", buffering=0)  # noqa: SIM115
        try:
            if not _locked(file, wait):
                file.close()
                return None
            if not _is_at(file, path):
                raise FileNotFoundError(f"{path} was removed")
        except BaseException:
            file.close()
            raise
        return cls(path, file)

    @staticmethod
    def is_held(path: Path) -> bool:
        """Whether a process has it locked. Raises OSError where there is no such file."""
        with open(path, "rb", buffering=0) as file:
            return not _locked(file, wait=False)

    def name_holder(self, text: str) -> None:
        """Write who has it, for `holder`."""
        self._file.truncate(0)
        self._file.write(text.encode())

    @staticmethod
    def holder(path: Path) -> str:
        """Who has, or had, it locked; '' where nobody says."""
        with suppress(OSError):
            return path.read_text(encoding="utf-8", errors="replace")
        return ""

    def close(self) -> None:
        """Let it go; the file stays."""
        self._file.close()

    def remove_folder(self) -> None:
        """Remove the folder that it is in with all that is there, and let it go. What cannot be removed stays."""
        if not ground.WINDOWS:
            shutil.rmtree(self.path.parent, ignore_errors=True)
            self.close()
            return
        # No file that is open can be removed there: where that of the lock can, nobody else has taken it meanwhile.
        self.close()
        with suppress(OSError):
            self.path.unlink()
            shutil.rmtree(self.path.parent, ignore_errors=True)


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether an open file is still the one at `path`, and not one that was removed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _locked(file: BinaryIO, wait: bool) -> bool:
    if ground.WINDOWS:
        return _locked_on_windows(file, wait)
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _locked_on_windows(file: BinaryIO, wait: bool) -> bool:
    import msvcrt

    while True:
        file.seek(FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            if not wait:
                return False
            time.sleep(TRY_S)
        else:
            return True
        finally:
            file.seek(0, os.SEEK_END)
