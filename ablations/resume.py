"""What a command that is given again has left to do: which runs of the store to use, and where to go on.

A run is the same as an earlier one where configuration, data and code agree. Its sweep does not count for that, but
each sweep has a run of its own for all that it asked for, so that its report is complete.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablations.checkpoints import Checkpoint, is_claimed
from ablations.tracking.earlier import EarlierRun
from ablations.tracking.sending import LOCAL_ID

DEAD_AFTER_HEARTBEATS = 10


@dataclass(frozen=True)
class Todo:
    """What to do for one configuration in one sweep.

    `result` is the run that has the result; where it is another sweep's, it is to be copied (`copy`). Without one
    there is something to train, from `checkpoint` on, where there is one. `go_on` is the run of the store to
    write to, None for a new one. `replaced` are this sweep's own runs that cannot go on and are not to be seen any
    more, `orphans` those of other sweeps that are RUNNING though nobody trains them.
    """

    result: EarlierRun | None = None
    copy: bool = False
    checkpoint: Checkpoint | None = None
    go_on: EarlierRun | None = None
    replaced: list[EarlierRun] = field(default_factory=list)
    orphans: list[EarlierRun] = field(default_factory=list)


def decide(
    earlier: Sequence[EarlierRun],
    epochs: Mapping[str, int],
    sweep: str | None,
    checkpoint: Checkpoint | None,
    rerun: bool,
) -> Todo:
    """Decide what to do for a configuration of `sweep`, of which nobody else trains anything.

    Args:
        earlier: the runs of this configuration, data and code, the newest first.
        epochs: how many epochs the store knows of those that have no result, by their ids.
        sweep: None for a run of its own, which is content with the result of any.
        checkpoint: the last good one.
        rerun: whether to train again what has its result.
    """
    own = [run for run in earlier if run.tags.get("sweep") == sweep]
    others = [run for run in earlier if run not in own]
    orphans = [run for run in others if run.status == "RUNNING"]
    unfinished = [run for run in own if not has_result(run)]
    result = None if rerun else next((run for run in [*own, *others] if has_result(run)), None)
    if result is not None and (sweep is None or result in own):
        return Todo(result=result, replaced=unfinished, orphans=orphans)

    def continues(run: EarlierRun) -> bool:
        """Whether nothing is in the store that would then be there twice."""
        if result is not None:
            return run.tags.get("copied_from") == result.run_id or not epochs[run.run_id]
        ids = run.run_id, run.tags.get(LOCAL_ID)
        covered = checkpoint.state.epoch if checkpoint and checkpoint.run_id in ids else 0
        return "copied_from" not in run.tags and epochs[run.run_id] <= covered

    go_on = next((run for run in unfinished if continues(run)), None)
    return Todo(
        result=result,
        copy=result is not None,
        checkpoint=checkpoint if result is None else None,
        go_on=go_on,
        replaced=[run for run in unfinished if run is not go_on],
        orphans=orphans,
    )


def decide_without_store(checkpoint: Checkpoint | None) -> Todo:
    """What to do while the store is away: go on with the run that the checkpoint is of, or begin a new one."""
    if checkpoint is None:
        return Todo()
    return Todo(checkpoint=checkpoint, go_on=EarlierRun(checkpoint.run_id, "RUNNING", None, {}, {}))


def has_result(run: EarlierRun) -> bool:
    """Whether training it again would give nothing new: it is FINISHED, or diverged, which it would do again."""
    return run.status == "FINISHED" or run.tags.get("failure") == "diverged"


def is_trained_elsewhere(run: EarlierRun, lock: Path, heartbeat_s: float) -> bool:
    """Whether another process still trains a run, seen by the one that holds `lock`.

    On this machine its claim is asked, on another one it must have shown a heartbeat.
    """
    name = run.tags.get("claim")
    if run.status != "RUNNING" or name is None:
        return False
    held = is_claimed(name, lock)
    if held is None:
        beat_ms = int(run.tags.get("heartbeat", 0))
        return time.time() - beat_ms / 1000 < DEAD_AFTER_HEARTBEATS * heartbeat_s
    return held
