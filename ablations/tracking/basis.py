"""What a SQLite store has of a sweep, as one hash: whether anything changed is known without reading it as tables."""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from ablations.errors import InputError
from ablations.ground import local_path
from ablations.tracking.reader import Reader
from ablations.tracking.store import Store
from ablations.tracking.study import (
    look_numbers,
    looks_in,
    looks_of,
    sweep_of_prefixes,
    sweep_of_trials,
    tag_of,
)

ARRAYS = ".npz"
"""How the names of the artifacts end that reports read."""

OF_SWEEP = (
    "run_uuid IN (SELECT run_uuid FROM runs JOIN experiments USING (experiment_id) JOIN tags USING (run_uuid)"
    " WHERE key = 'sweep' AND value = :sweep AND runs.lifecycle_stage = 'active'"
    " AND experiments.lifecycle_stage = 'active')"
)
QUERIES = (
    "SELECT run_uuid, runs.name, status, start_time, end_time, artifact_uri, experiments.experiment_id,"
    f" experiments.name FROM runs JOIN experiments USING (experiment_id) WHERE {OF_SWEEP}",
    f"SELECT run_uuid, key, value FROM params WHERE {OF_SWEEP}",
    f"SELECT run_uuid, key, value FROM tags WHERE {OF_SWEEP} AND key <> 'sweep_id'",
    f"SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE {OF_SWEEP}",
    f"SELECT run_uuid, key, step, timestamp, value, is_nan FROM metrics WHERE {OF_SWEEP}",
    "SELECT destination_id, datasets.digest, input_tags.name, input_tags.value FROM inputs"
    " JOIN datasets ON dataset_uuid = source_id LEFT JOIN input_tags USING (input_uuid)"
    f" WHERE destination_id IN (SELECT run_uuid FROM runs WHERE {OF_SWEEP})",
)
"""All that a report reads of the runs of a sweep, but for which invocation asked for them last."""


@dataclass(frozen=True)
class Basis:
    """What a report of a sweep is compiled from.

    Attributes:
        digest: the same where the report would be the same, but for the ids of invocations.
        asked: by run the id of the invocation that asked for it last, of which `digest` knows the order alone.
    """

    digest: str
    asked: Mapping[str, str]


def basis(store: Store, sweep: str) -> Basis | None:
    """Of the runs of a sweep, its study, the looks at it and the arrays among its artifacts.

    None where it has to be read in full: of a store that is no SQLite file or cannot be read, of a sweep without
    runs, of one with trials, whose runs count, too, and of runs whose artifacts are downloaded to be looked at.
    """
    if store.path is None:
        return None
    try:
        with closing(store.connect()) as db:
            db.execute("BEGIN")  # one moment of the store
            if any(_runs_of(db, aside(sweep)) for aside in (sweep_of_trials, sweep_of_prefixes)):
                return None
            asked = _runs_of(db, sweep)
            if _has_distant_artifacts(db, sweep):
                return None
            facts = [*_facts(db, sweep, asked)]
        reader = Reader(store)
        facts += [_arrays(reader, run_id) for run_id in sorted(asked)]
    except (sqlite3.Error, InputError, OSError):
        return None
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(f"{fact!r}\n".encode())
    return Basis(digest.hexdigest(), asked) if asked else None


def _runs_of(db: sqlite3.Connection, sweep: str) -> dict[str, str]:
    query = (
        "SELECT run_uuid, (SELECT value FROM tags t WHERE t.run_uuid = runs.run_uuid AND t.key = 'sweep_id')"
        f" FROM runs WHERE {OF_SWEEP}"
    )
    return {run_id: asked or "" for run_id, asked in db.execute(query, {"sweep": sweep})}


def _has_distant_artifacts(db: sqlite3.Connection, sweep: str) -> bool:
    places = db.execute(f"SELECT artifact_uri FROM runs WHERE {OF_SWEEP}", {"sweep": sweep})
    return any(isinstance(place, str) and local_path(place) is None for (place,) in places)


def _facts(db: sqlite3.Connection, sweep: str, asked: Mapping[str, str]) -> Iterator[object]:
    for query in QUERIES:
        yield from sorted(db.execute(query, {"sweep": sweep}), key=repr)
    order = {invocation: number for number, invocation in enumerate(sorted(set(asked.values())))}
    yield sorted((run_id, order[invocation]) for run_id, invocation in asked.items())
    experiments = f"SELECT experiment_id FROM runs WHERE {OF_SWEEP}"
    tags = f"SELECT experiment_id, key, value FROM experiment_tags WHERE experiment_id IN ({experiments})"
    found = db.execute(tags, {"sweep": sweep}).fetchall()
    yield sorted(each for each in found if each[1] == tag_of(sweep))
    firsts = dict(
        db.execute(
            f"SELECT run_uuid, value FROM tags WHERE key = 'first_sweep_id' AND {OF_SWEEP}", {"sweep": sweep}
        )
    )
    first = {run_id: firsts.get(run_id, invocation) for run_id, invocation in asked.items()}
    looks = looks_of([looks_in({key: value for _, key, value in found})], {sweep}, set(first.values()))
    yield sorted(zip(first, look_numbers(list(first.values()), looks), strict=True))


def _arrays(reader: Reader, run_id: str) -> object:
    folder = reader.artifact(run_id, ".")
    if folder is None:
        return run_id, None
    files = ((path.relative_to(folder).as_posix(), path.stat()) for path in folder.rglob(f"*{ARRAYS}"))
    return run_id, sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)
