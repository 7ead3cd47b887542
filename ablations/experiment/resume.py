"""What is there already: which runs of the store to use, and where to go on.

A run is the same as an earlier one where configuration, data and code agree. Its sweep does not count for that, but
each sweep has a run of its own for all that it asked for, so that its report is complete.
"""

import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.experiment.checkpoints import Checkpoint
from ablations.experiment.job import DATA
from ablations.experiment.lease import HOLDER_TAG, Holder
from ablations.tracking.earlier import EarlierRun
from ablations.tracking.sending import LOCAL_ID

DEAD_AFTER_HEARTBEATS = 10

RERUN_TAG = "rerun"
"""The tag of a run that was asked for although there was a result."""


FIRST_INVOCATION = "first_sweep_id"
"""The tag with the invocation of a sweep that first had a result; `sweep_id` is the one that asked for it last."""


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
    unusable: Collection[str] = (),
) -> Adopt | Copy | Train:
    """What to do for a configuration of `sweep`, of which nobody else trains anything.

    Args:
        earlier: the runs of this configuration, data and code, the newest first.
        epochs: how many epochs the store knows, or will know, of those that have no result and may go on here, by
            their ids.
        sweep: None for a run of its own, which is content with the result of any.
        checkpoint: the last good one.
        rerun: whether to train again what has its result.
        unusable: the ids of those whose result cannot be copied.
    """
    own, others = _own_and_others(earlier, sweep)
    extra = [*surplus(own), *doubles(own)]
    own = [run for run in own if run not in extra]
    copied = [run for run in others if sweep is None or (run.run_id not in unusable and not run.kept)]
    result = None if rerun else next((run for run in [*own, *copied] if has_result(run)), None)
    if result is not None and (sweep is None or result in own):
        return Adopt(result)

    def continues(run: EarlierRun) -> bool:
        """Whether nothing is in the store that would then be there twice."""
        if run.run_id not in epochs:
            return False
        if result is not None:
            return run.tags.get("copied_from") == result.run_id or not epochs[run.run_id]
        covered = checkpoint.state.epoch if checkpoint and checkpoint.run_id in run.ids else 0
        return "copied_from" not in run.tags and epochs[run.run_id] <= covered

    # What waits in the outbox is not to be replaced as long as there is another way.
    unfinished = sorted((run for run in own if not has_result(run)), key=lambda run: not run.kept)
    into = next((run for run in unfinished if continues(run)), None)
    return Train(checkpoint, into) if result is None else Copy(result, into)


def without_store(
    kept: Sequence[EarlierRun], sweep: str | None, checkpoint: Checkpoint | None
) -> list[EarlierRun]:
    """What is known while the store cannot be read: what waits in the outbox, and the run of the checkpoint."""
    if checkpoint is None or any(checkpoint.run_id in run.ids for run in kept):
        return [*kept]
    tags = {} if sweep is None else {"sweep": sweep}
    return [EarlierRun(checkpoint.run_id, "RUNNING", None, {}, tags), *kept]


def leftovers(
    earlier: Sequence[EarlierRun], sweep: str | None, decision: Adopt | Copy | Train
) -> tuple[list[EarlierRun], list[EarlierRun]]:
    """What a decision leaves behind: the sweep's own runs that cannot go on, or have a result that an older one has,
    and are not to be seen any more; and those of other sweeps that are RUNNING though nobody trains them."""
    own, others = _own_and_others(earlier, sweep)
    goes_on = None if isinstance(decision, Adopt) else decision.into
    extra = [*surplus(own), *doubles(own)]
    replaced = [run for run in own if run in extra or (not has_result(run) and run is not goes_on)]
    return replaced, [run for run in others if run.status == "RUNNING"]


def surplus(own: Sequence[EarlierRun]) -> list[EarlierRun]:
    """The results of a sweep beside the oldest one, but for those that were asked for: several may come of starts at
    the same moment, or while the store was away."""
    results = [run for run in own if has_result(run) and RERUN_TAG not in run.tags]
    results.sort(key=lambda run: run.status == "FINISHED")  # the others diverged
    return results[:-1]


def doubles(earlier: Sequence[EarlierRun]) -> list[EarlierRun]:
    """The runs beside the one that is written to, left by requests to create it whose answer was lost."""
    groups: dict[str, list[EarlierRun]] = {}
    for run in reversed(earlier):
        groups.setdefault(run.tags.get(LOCAL_ID, run.run_id), []).append(run)
    written = [max(group, key=lambda run: (bool(run.kept), len(run.metrics))) for group in groups.values()]
    return [run for run in earlier if run not in written]


def stays(
    run_id: str,
    earlier: Sequence[EarlierRun],
    sweep: str | None,
    is_trained: Callable[[EarlierRun], bool],
    rerun: bool,
) -> bool:
    """Whether a run that is being written is the one to stay, seen alike by all that have begun at the same moment.

    That is the oldest of those that are trained (the smallest id among equals), unless there is a result by now.
    """
    own, _ = _own_and_others(earlier, sweep)
    ids = [run.run_id for run in own]
    if run_id not in ids:
        return True
    older = own[ids.index(run_id) + 1 :]
    done = not rerun and any(has_result(run) for run in own if run.run_id != run_id)
    return not done and not any(is_trained(run) for run in older)


def _own_and_others(
    earlier: Sequence[EarlierRun], sweep: str | None
) -> tuple[list[EarlierRun], list[EarlierRun]]:
    own = [run for run in earlier if run.tags.get("sweep") == sweep]
    return own, [run for run in earlier if run.tags.get("sweep") != sweep]


def first_invocation(run: EarlierRun, invocation: Mapping[str, str]) -> str:
    """The id of the invocation that first had a run's result, as far as is known, for a sweep that takes it over."""
    return run.tags.get(FIRST_INVOCATION) or run.tags.get("sweep_id") or invocation["sweep_id"]


def tags_of_adoption(run: EarlierRun, invocation: Mapping[str, str]) -> dict[str, str]:
    """The tags by which a run with a result belongs to the invocation that asks for it last."""
    return {FIRST_INVOCATION: first_invocation(run, invocation), **invocation}


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


def may_go_on(run: EarlierRun, lock: Path) -> bool:
    """Whether nobody but who holds `lock` takes up this run of a store that machines share."""
    name = run.tags.get(HOLDER_TAG)
    return name is None or (
        Holder.parse(name).lock == lock and Holder.parse(name).host == socket.gethostname()
    )
