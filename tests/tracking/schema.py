"""The schema of a SQLite store as MLflow's own migrations make it, as SQL that makes it in one go.

python tests/tracking/schema.py > ablations/tracking/mlflow-VERSION.sql
"""

import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from ablations.tracking.store import Store

KEPT = ("alembic_version", "experiments", "workspaces")
"""The tables that have rows at first."""


def migrated(folder: Path) -> Path:
    """A database that MLflow made."""
    store = Store(f"sqlite:///{folder / 'mlflow.db'}")
    store._migrate(folder / "artifacts")
    return store.path


def dumped(path: Path) -> str:
    """The statements that make its tables, their indices, triggers and first rows; places and times are NULL."""
    with closing(sqlite3.connect(path)) as db:
        # Tables before what is of them; by name, as migrations make indices in any order.
        ordered = (
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type = 'table' DESC, type, name"
        )
        made = db.execute(ordered).fetchall()
        filled = [
            name
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if db.execute(f"SELECT 1 FROM {name}").fetchone()
        ]
        assert sorted(filled) == sorted(KEPT), filled
        db.execute(
            "UPDATE experiments SET artifact_location = NULL, creation_time = NULL, last_update_time = NULL"
        )
        rows = [line for line in db.iterdump() if line.startswith("INSERT")]
    statements = [*(statement for (statement,) in made), *(row.removesuffix(";") for row in rows)]
    return "BEGIN;\n" + "".join(f"{each};\n" for each in statements) + "COMMIT;\n"


def settled(dump: str) -> list[list[str]]:
    """The statements, each as its lines in one order: migrations write the constraints of a table in any."""
    return [sorted(line.strip(", ") for line in each.splitlines()) for each in dump.split(";\n")]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(dumped(migrated(Path(folder))))
