"""What is written to a SQLite store without MLflow, whose import takes seconds: tags, and files beside the store.

Each function says whether it did all of what was asked. Where it did not it did nothing, and MLflow is to be asked,
which then does it or says what is wrong: of a server, of a run that was deleted, of what MLflow would not take.
Tables and columns are those of every MLflow since 1.0.
"""

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Protocol

from ablations import ground
from ablations.ground import local_path

# MLflow's limits.
KEY_CHARACTERS = 250
TAG_CHARACTERS = 8000
EXPERIMENT_TAG_CHARACTERS = 20_000
PLAIN_KEY = re.compile(r"\w[\w.-]*")
UPLOADING = ".artifact.uploading."
"""How MLflow's names of files begin that are not whole yet."""


class Connecting(Protocol):
    """What is known of a store here: its SQLite file, None where it has none, and how that is opened."""

    @property
    def path(self) -> Path | None: ...

    def connect(self, mode: str = "ro") -> sqlite3.Connection: ...


def tag_run(store: Connecting, run_id: str, tags: Mapping[str, str]) -> bool:
    """Set or replace tags of a run. Raises sqlite3.Error where the file cannot be written to now."""
    # MLflow's own tags may be columns elsewhere, too, as a run's name.
    own = any(key.startswith("mlflow.") for key in tags)
    if own or not all(_is_plain(key, value, TAG_CHARACTERS) for key, value in tags.items()):
        return False
    return _tagged(store, "run", "run_uuid", run_id, tags)


def tag_experiment(store: Connecting, experiment_id: str, key: str, value: str) -> bool:
    """Set or replace a tag of an experiment. Raises sqlite3.Error as `tag_run` does."""
    if key.startswith("mlflow.trace") or not _is_plain(key, value, EXPERIMENT_TAG_CHARACTERS):
        return False
    return _tagged(store, "experiment", "experiment_id", experiment_id, {key: value})


def add_files(store: Connecting, run_id: str, folder: Path) -> bool:
    """Copy what is in a folder to the artifacts of a run, each file whole. Raises sqlite3.Error as `tag_run`
    does, OSError where a file cannot be written."""
    if store.path is None:
        return False
    with closing(store.connect()) as db:
        row = db.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", [run_id]).fetchone()
    home = local_path(row[0]) if row and isinstance(row[0], str) else None
    if home is None:
        return False
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        _copy(path, home / path.relative_to(folder))
    return True


def _is_plain(key: str, value: str, characters: int) -> bool:
    return len(key) <= KEY_CHARACTERS and len(value) <= characters and bool(PLAIN_KEY.fullmatch(key))


def _tagged(store: Connecting, kind: str, column: str, its_id: str, tags: Mapping[str, str]) -> bool:
    if store.path is None:
        return False
    with closing(store.connect("rw")) as db:
        db.isolation_level = None
        db.execute("BEGIN IMMEDIATE")
        active = f"SELECT 1 FROM {kind}s WHERE {column} = ? AND lifecycle_stage = 'active'"
        if db.execute(active, [its_id]).fetchone() is None:
            db.execute("ROLLBACK")
            return False
        table = "tags" if kind == "run" else "experiment_tags"
        rows = [(key, value, its_id) for key, value in tags.items()]
        db.executemany(f"INSERT OR REPLACE INTO {table} (key, value, {column}) VALUES (?, ?, ?)", rows)
        db.execute("COMMIT")
    return True


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    number, partial = tempfile.mkstemp(dir=to.parent, prefix=UPLOADING)
    os.close(number)
    try:
        shutil.copyfile(path, partial)
        shutil.copystat(path, partial)
        ground.replace(Path(partial), to)
    except OSError:
        Path(partial).unlink(missing_ok=True)
        raise
