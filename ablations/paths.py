"""Where the project's own folders are, whatever the working directory; and folders for what is not finished."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
MLRUNS = ROOT / "mlruns"
REPORTS = ROOT / "reports"


@contextmanager
def draft_folder(place: Path | None = None, prefix: str = "ablations-") -> Iterator[Path]:
    """A new folder `PREFIX…`, which is gone after the block. Raises OSError where it cannot be made.

    It is in `place`, else where the system wants temporary files. Those of processes that were killed are removed:
    each owner holds a lock on its own, which the kernel releases however that ends.
    """
    place = Path(tempfile.gettempdir()) if place is None else place
    remove_drafts(place, prefix)
    while True:
        with tempfile.TemporaryDirectory(dir=place, prefix=prefix, ignore_cleanup_errors=True) as name:
            try:
                lock = os.open(name, os.O_RDONLY)
            except FileNotFoundError:  # taken, before it was locked, for that of a process that was killed
                continue
            try:
                with suppress(OSError):  # a file system without locks, where nobody removes it either
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if os.path.exists(name):  # else it was removed before it was locked
                    yield Path(name)
                    return
            finally:
                os.close(lock)


def remove_drafts(place: Path, prefix: str) -> None:
    """Remove what `draft_folder` made in `place` for processes that were killed."""
    with suppress(OSError):  # of `place`, where it does not exist yet
        for path in place.iterdir():
            if re.fullmatch(re.escape(prefix) + "[a-z0-9_]{8}", path.name):
                with suppress(OSError):  # it is locked, or somebody else's
                    _remove_unlocked(path)


def _remove_unlocked(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(lock)
