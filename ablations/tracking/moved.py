"""A store that was moved, copied or mounted elsewhere with its artifacts, of which MLflow keeps absolute places."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ablations.ground import local_path

PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns of an MLflow database with the places of artifacts."""


@dataclass(frozen=True)
class Move:
    """From where the artifacts of a store are said to be, to where they lie; both as addresses without a last `/`."""

    before: str
    now: str

    def of(self, location: str) -> str:
        """Where what was at `location` is; itself where it was not moved along."""
        rest = location.removeprefix(self.before)
        if rest == location or (rest and rest[0] != "/"):
            return location
        here, there = local_path(self.now + rest), local_path(location)
        stayed = rest and there is not None and there.exists() and not here.exists()
        return location if stayed else self.now + rest


def move(db: sqlite3.Connection, here: Path) -> Move | None:
    """How the artifacts came to the folder `here`, beside the database; None where they are where it says.

    The default experiment, which is made with the store, says where that was. Of an old place that exists, as after
    copying, nothing is said where no run has its artifacts here, too.
    """
    row = db.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
    before = str(row[0]).removesuffix("/0") if row else ""
    there = local_path(before)
    if there is None or there.name != here.name or there == here or not here.is_dir():
        return None
    found = Move(before, here.as_uri())
    if there.exists():
        if there.samefile(here):
            return None
        runs = [location for (location,) in db.execute("SELECT artifact_uri FROM runs")]
        if runs and not any(_is_here(found.of(location), here) for location in runs):
            return None
    return found


def settle(path: Path, here: Path) -> None:
    """Let a database name the artifacts that lie `here` by their place. Raises sqlite3.Error."""
    with closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as db:
        if move(db, here) is None:
            return
        db.execute("BEGIN IMMEDIATE")
        found = move(db, here)  # unless another process was quicker
        for table, column in PLACES if found else ():
            if column not in {row[1] for row in db.execute(f"PRAGMA table_info({table})")}:
                continue
            for rowid, location in db.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
                if isinstance(location, str) and (place := found.of(location)) != location:
                    db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", [place, rowid])
        db.execute("COMMIT")


def _is_here(location: str, here: Path) -> bool:
    folder = local_path(location)
    return folder is not None and folder.is_relative_to(here) and folder.exists()
