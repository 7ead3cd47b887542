"""Where the project's own folders are; and folders for what is not finished.

In a clone they are the clone's, whatever the working directory. Installed as a package the code lies among other
packages, where nothing is ever written: the project folder is then the user's.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ablations.ground.lock import Lock

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
CLONE = not (PACKAGE / "conf").is_dir()
"""Whether the code is run from its repository, which has conf/ and run.py beside it; a package has conf/ inside."""

CONF = ROOT / "conf" if CLONE else PACKAGE / "conf"
MARKER = "ablations.yaml"
"""A file of this name, empty or not, makes a folder a project folder."""

LOCK = "lock"
"""The file in the folder of something unfinished that its owner holds the lock of."""


def project_folder() -> Path:
    """The folder of mlruns/ and reports/: ABLATIONS_HOME, else the clone, else the nearest folder from the working
    directory upwards with an `ablations.yaml` or a `conf/`, else the working directory."""
    if named := os.environ.get("ABLATIONS_HOME"):
        return Path(named).expanduser().absolute()
    if CLONE:
        return ROOT
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was deleted: require_usable_folders says so
        return Path(os.environ.get("PWD") or os.sep)
    for folder in (here, *here.parents):
        if folder != PACKAGE and ((folder / MARKER).is_file() or (folder / "conf").is_dir()):
            return folder
    return here


HOME = project_folder()
MLRUNS = HOME / "mlruns"
REPORTS = HOME / "reports"
OWN_CONF = HOME / "conf" if (HOME / "conf").is_dir() and HOME / "conf" != CONF else None
"""The user's own choices, studies and experiments beside those in CONF, where there are any."""


def choices(group: str) -> list[str]:
    """The names of the choices of a config group, sorted; none where there is no such group."""
    found = (path.stem for conf in (CONF, OWN_CONF) if conf for path in (conf / group).glob("*.yaml"))
    return sorted(set(found))


def choice_file(group: str, choice: str) -> Path | None:
    """The file of a choice; None where there is none."""
    files = (conf / group / f"{choice}.yaml" for conf in (CONF, OWN_CONF) if conf)
    return next((file for file in files if file.is_file()), None)


@contextmanager
def draft_folder(place: Path | None = None, prefix: str = "ablations-draft-") -> Iterator[Path]:
    """A new empty folder, which is gone after the block. Raises OSError where it cannot be made.

    It is in a folder `PREFIX…` in `place`, else where the system wants temporary files. Those of processes that were
    killed are removed: each owner holds a lock on its own, which the system releases however that ends.
    """
    place = Path(tempfile.gettempdir()) if place is None else place
    remove_drafts(place, prefix)
    while True:
        whole = Path(tempfile.mkdtemp(dir=place, prefix=prefix))
        try:
            lock = Lock.take(whole / LOCK)
            if lock is None:  # it is just being removed as that of a process that was killed
                continue
        except FileNotFoundError:  # it was removed as such
            continue
        except OSError:  # a file system without locks, where nobody removes it either
            lock = None
        try:
            (whole / "draft").mkdir()
            yield whole / "draft"
            return
        finally:
            lock.remove_folder() if lock else shutil.rmtree(whole, ignore_errors=True)


def remove_drafts(place: Path, prefix: str) -> None:
    """Remove what `draft_folder` made in `place` for processes that were killed."""
    with suppress(OSError):  # of `place`, where it does not exist yet
        for path in place.iterdir():
            if re.fullmatch(re.escape(prefix) + "[a-z0-9_]{8}", path.name) and not path.is_symlink():
                with suppress(OSError):  # somebody else's
                    if lock := Lock.take(path / LOCK):
                        lock.remove_folder()
