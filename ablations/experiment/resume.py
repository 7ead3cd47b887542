"""What is there already: which runs of the store to use, and where to go on.

A run is the same as an earlier one where configuration, data and code agree. Its sweep does not count for that, but
each sweep has a run of its own for all that it asked for, so that its report is complete.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.experiment.checkpoints import Checkpoint
from ablations.experiment.job import DATA
from ablations.experiment.lease import HOLDER_TAG, Holder
from ablations.tracking.earlier import EarlierRun
from ablations.tracking.sending import LOCAL_ID

DEAD_AFTER_HEARTBEATS = 10


@dataclass(frozen=True)
class Adopt:
    """A run has the result, and it is where it is wanted."""

    run: EarlierRun


@dataclass(frozen=True)
class Copy:
    """A run of another sweep has the result; this sweep gets a record of its own, begun `into` a run or new."""

    source: EarlierRun
    into: EarlierRun | None = None


@dataclass(frozen=True)
class Train:
    """Nothing has the result. Training goes on from `checkpoint`, its record in the run `into`; None: anew."""

    checkpoint: Checkpoint | None = None
    into: EarlierRun | None = None


def decide(
    earlier: Sequence[EarlierRun],
    epochs: Mapping[str, int],
    sweep: str | None,
    checkpoint: Checkpoint | None,
    rerun: bool,
) -> Adopt | Copy | Train:
    """What to do for a configuration of `sweep`, of which nobody else trains anything.

    Args:
        earlier: the runs of this configuration, data and code, the newest first.
        epochs: how many epochs the store knows of those that have no result, by their ids.
        sweep: None for a run of its own, which is content with the result of any.
        checkpoint: the last good one.
        rerun: whether to train again what has its result.
    """
    own, others = _own_and_others(earlier, sweep)
    result = None if rerun else next((run for run in [*own, *others] if has_result(run)), None)
    if result is not None and (sweep is None or result in own):
        return Adopt(result)

    def continues(run: EarlierRun) -> bool:
        """Whether nothing is in the store that would then be there twice."""
        if result is not None:
            return run.tags.get("copied_from") == result.run_id or not epochs[run.run_id]
        ids = run.run_id, run.tags.get(LOCAL_ID)
        covered = checkpoint.state.epoch if checkpoint and checkpoint.run_id in ids else 0
        return "copied_from" not in run.tags and epochs[run.run_id] <= covered

    into = next((run for run in own if not has_result(run) and continues(run)), None)
    return Train(checkpoint, into) if result is None else Copy(result, into)


def decide_without_store(checkpoint: Checkpoint | None) -> Train:
    """What to do while the store is away: go on with the run that the checkpoint is of, or begin a new one."""
    if checkpoint is None:
        return Train()
    return Train(checkpoint, EarlierRun(checkpoint.run_id, "RUNNING", None, {}, {}))


def leftovers(
    earlier: Sequence[EarlierRun], sweep: str | None, decision: Adopt | Copy | Train
) -> tuple[list[EarlierRun], list[EarlierRun]]:
    """What a decision leaves behind: the sweep's own runs that cannot go on and are not to be seen any more, and those
    of other sweeps that are RUNNING though nobody trains them."""
    own, others = _own_and_others(earlier, sweep)
    goes_on = None if isinstance(decision, Adopt) else decision.into
    replaced = [run for run in own if not has_result(run) and run is not goes_on]
    return replaced, [run for run in others if run.status == "RUNNING"]


def _own_and_others(
    earlier: Sequence[EarlierRun], sweep: str | None
) -> tuple[list[EarlierRun], list[EarlierRun]]:
    own = [run for run in earlier if run.tags.get("sweep") == sweep]
    return own, [run for run in earlier if run.tags.get("sweep") != sweep]


def has_result(run: EarlierRun) -> bool:
    """Whether training it again would give nothing new: it is FINISHED, or diverged, which it would do again."""
    return run.status == "FINISHED" or run.tags.get("failure") == "diverged"


def is_of(run: EarlierRun, identity: Mapping[str, str]) -> bool:
    """Whether a run is of the same configuration and code, and of the same data as far as it got to know them."""
    known = {DATA: identity.get(DATA), **run.tags}
    return all(known.get(key) == value for key, value in {DATA: None, **identity}.items())


def is_trained_elsewhere(run: EarlierRun, lock: Path, heartbeat_s: float) -> bool:
    """Whether another process still trains a run, seen by the one that holds `lock`.

    On this machine its lock is tried, on another one it must have shown a heartbeat.
    """
    name = run.tags.get(HOLDER_TAG)
    if run.status != "RUNNING" or name is None:
        return False
    alive = Holder.parse(name).is_alive(lock)
    if alive is None:
        beat_ms = int(run.tags.get("heartbeat", 0))
        return time.time() - beat_ms / 1000 < DEAD_AFTER_HEARTBEATS * heartbeat_s
    return alive
