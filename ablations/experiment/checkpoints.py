"""A training on disk, so that it can go on when its process is gone.

Each configuration has a folder with two files of the same kind, the last checkpoint and the one before; it goes when
the run has its result.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ablations import ground
from ablations.errors import PlainError
from ablations.experiment.lease import LOCK
from ablations.tracking.arrays import read_arrays
from ablations.training.loop import State

FORMAT = 1
LAST, BEFORE = "checkpoint.npz", "previous.npz"

SHARE = 0.05
"""The largest part of a training's time that goes into its checkpoints."""


class CheckpointError(PlainError):
    """A file that is no whole checkpoint of the training that is to go on."""


class Measured(NamedTuple):
    """Metrics by name, and when they were measured: `step`, and milliseconds since 1970."""

    metrics: Mapping[str, float]
    step: int
    time_ms: int


@dataclass(frozen=True)
class Checkpoint:
    """A training after some epoch.

    `identity` says of what (`config_hash`, `code_hash`, `data_sha256`), `run_id` which MLflow run it belongs to;
    `measured` is all that has been measured up to `state`.
    """

    identity: Mapping[str, str]
    run_id: str
    state: State
    measured: list[Measured]


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint that is whole and on the disk when this returns; the one before is kept beside it.

    The file is an `.npz` of plain arrays (no pickle): `header` is JSON, `sha256` a digest of everything else.
    """
    state = checkpoint.state
    header = {
        "format": FORMAT,
        "identity": dict(checkpoint.identity),
        "run_id": checkpoint.run_id,
        "epoch": state.epoch,
        "steps": state.steps,
        "streams": dict(state.streams),
        "measured": checkpoint.measured,
    }
    arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), "values": state.values}
    arrays |= {f"memory.{name}": vector for name, vector in state.memory.items()}
    arrays |= {f"statistics.{name}": array for name, array in state.statistics.items()}
    arrays["sha256"] = np.frombuffer(_digest(arrays), np.uint8)
    fresh = path.with_name(f"{path.name}.writing")
    with open(fresh, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        ground.sync(file)
    if path.exists():
        ground.replace(path, path.with_name(BEFORE))
    ground.replace(fresh, path)
    ground.sync_folder(path.parent)


def read(path: Path, identity: Mapping[str, str]) -> Checkpoint:
    """Read a checkpoint of what `identity` says.

    Raises CheckpointError for whatever else the file may be. No more memory is used than a few times its size.
    """
    try:
        arrays = read_arrays(path, most=0)
        if arrays.pop("sha256").tobytes() != _digest(arrays):
            raise ValueError("its checksum is wrong")
        header = json.loads(arrays.pop("header").tobytes())
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']!r}")
        if header["identity"] != dict(identity):
            raise ValueError("it is of another configuration, other data or other code")
        state = State(
            epoch=_count(header["epoch"]),
            steps=_count(header["steps"]),
            values=arrays.pop("values"),
            memory=_below("memory.", arrays),
            streams={str(purpose): _stream(each) for purpose, each in header["streams"].items()},
            statistics=_below("statistics.", arrays),
        )
        measured = [
            Measured({str(name): float(value) for name, value in metrics.items()}, int(step), int(time_ms))
            for metrics, step, time_ms in header["measured"]
        ]
        return Checkpoint(header["identity"], str(header["run_id"]), state, measured)
    except Exception as error:  # whatever numpy, zipfile and json make of a file that may hold anything
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise CheckpointError(f"{path} is no checkpoint to go on from: {reason[:200]}") from error


class Checkpoints:
    """The last two checkpoints of one training, in the folder that whoever trains it holds the lease of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._spent, self._done = 0.0, -math.inf

    def latest(self, identity: Mapping[str, str]) -> tuple[Checkpoint | None, list[str]]:
        """The last good checkpoint, if there is one, and what is wrong with later ones."""
        complaints = []
        for path in (self.folder / LAST, self.folder / BEFORE):
            if path.exists():
                try:
                    return read(path, identity), complaints
                except CheckpointError as error:
                    complaints.append(str(error))
        return None, complaints

    def save(self, checkpoint: Checkpoint, must: bool) -> bool:
        """Write a checkpoint and keep the one before; whether it was written.

        That is put off, unless it `must` be, while checkpoints would take more than `SHARE` of the time.
        """
        started = time.monotonic()
        if not must and started - self._done < self._spent / SHARE:
            return False
        write(self.folder / LAST, checkpoint)
        self._done = time.monotonic()
        self._spent = self._done - started
        return True

    def remove(self) -> None:
        """Forget them; the lease is kept."""
        for path in self.folder.iterdir():
            if path.name != LOCK:
                path.unlink()


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): each for name, each in arrays.items() if name.startswith(prefix)}


def _digest(arrays: Mapping[str, np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.digest()


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"it counts {value!r}")
    return value


def _stream(state: Mapping[str, object]) -> Mapping[str, object]:
    """The state of a random stream, once the generator has accepted it."""
    generator = np.random.default_rng(0).bit_generator
    generator.state = state
    return generator.state
