"""Variants: what each one reached, over which runs, and at what cost.

Times are seconds, a value is in its metric's own unit.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ablations.comparison import exact
from ablations.comparison.lengths import VALIDATION, lengths
from ablations.comparison.outcomes import Outcome
from ablations.tracking.columns import NOT_LOGGED, column, natural, numbers, param, params_in
from ablations.tracking.columns import metric as metric_column
from ablations.tracking.study import target_is_small

EPOCHS_TO_TARGET = "epochs_to_target"
EPOCH_TIME = "time/epoch_s"

COSTS = ("parameters", "connections", "macs")
"""What a network costs, in params `network.<cost>`."""


def with_times(
    runs: pd.DataFrame, histories: pd.DataFrame, target: Mapping[str, object] | None = None
) -> pd.DataFrame:
    """Runs with `epoch_s` and `train_s`: seconds of the median epoch, and of all epochs; and with a metric
    `epochs_to_target`: the first epoch with `target["metric"]` at or beyond `target["value"]`.

    The median, because other work on the machine makes some epochs longer, and none shorter. A run that does not
    reach the target counts as one epoch more than it had; without epochs of that metric it has no value. Beside them
    what `lengths.lengths` says of each.
    """
    if target is not None:
        steps = histories[histories["metric"] == target["metric"]]
        small = target_is_small(target)
        reached = steps[steps["value"] <= target["value"] if small else steps["value"] >= target["value"]]
        first = reached.groupby("run_id")["step"].min()
        first = first.reindex(steps["run_id"].unique()).fillna(steps.groupby("run_id")["step"].max() + 1)
        runs = runs.assign(**{metric_column(EPOCHS_TO_TARGET): runs["run_id"].map(first).astype(float)})
    times = histories[histories["metric"] == EPOCH_TIME].groupby("run_id")["value"].agg(["median", "sum"])
    return runs.assign(
        **{name: runs["run_id"].map(told).astype(float) for name, told in lengths(histories).items()},
        epoch_s=runs["run_id"].map(times["median"]).astype(float),
        train_s=runs["run_id"].map(times["sum"]).astype(float),
    )


def ranked(runs: pd.DataFrame, factors: Sequence[str], smaller: bool) -> pd.DataFrame:
    """Runs with `finished` and `variant` (0 has the best mean) in that order, with a `value` where they finished.

    Runs that did not log a factor are no variant that could lead: they come last.

    Args:
        runs: as `outcomes.with_outcomes` gives them.
        factors: the params that make a variant.
        smaller: whether smaller values are better.
    """
    finished = runs["outcome"] == Outcome.FINISHED
    keys = [param(key) for key in factors]
    group = runs.groupby(keys, sort=False).ngroup() if keys else pd.Series(0, index=runs.index)
    means = runs["value"][finished].groupby(group).agg(exact.mean) * (1 if smaller else -1)

    def place(row: Mapping[str, object]) -> tuple:
        levels = [row[key] for key in keys]
        return NOT_LOGGED in levels, means.get(row["group"], np.inf), [natural(level) for level in levels]

    order = sorted(runs.groupby(group).head(1).assign(group=group).to_dict("records"), key=place)
    rank = {row["group"]: number for number, row in enumerate(order)}
    runs = runs.assign(finished=finished, value=runs["value"].where(finished), variant=group.map(rank))
    seeds = column(runs, param("seed")).map(natural)
    within = zip(runs["variant"], seeds, runs["start_time"], runs["run_id"], range(len(runs)), strict=True)
    return runs.iloc[[each[-1] for each in sorted(within)]].reset_index(drop=True)


def variants(
    runs: pd.DataFrame, factors: Sequence[str], smaller: bool, apart: Sequence[str] = ()
) -> pd.DataFrame:
    """One row per variant, best first, its index the variant's number.

    Columns: the factors' params, `planned` (runs), `n` (finished runs, on which the rest stands), `mean`, `sd` (with
    n − 1, NaN for one run), `best` of the metric, `epoch_s`, `train_s` (seconds), `parameters`, `connections`,
    `macs`, `epochs_to_target`.

    Args:
        runs: as `ranked` gives them; `epoch_s`, `train_s` and `epochs_to_target` as `with_times` does.
        factors: the params that make a variant.
        smaller: whether smaller values are better.
        apart: params whose runs are one seed of a variant together: `planned` and `n` count seeds, whose values are
            means over them.
    """
    every = runs.groupby("variant")
    done = runs[runs["finished"]]
    means = {name: numbers(done, name) for name in ("epoch_s", "train_s")}
    means[EPOCHS_TO_TARGET] = numbers(done, metric_column(EPOCHS_TO_TARGET))
    costs = {cost: numbers(done, param(f"network.{cost}")) for cost in COSTS}
    done = done.assign(**means, **costs)
    planned = every.size()
    if apart:
        seed = param("seed")
        values = ["value", *means, *costs]
        done = done.groupby(["variant", seed], as_index=False, dropna=False)[values].mean()
        planned = every[seed].nunique(dropna=False)
    done = done.groupby("variant")
    table = pd.DataFrame({param(key): every[param(key)].first() for key in factors}, range(every.ngroups))
    return table.assign(
        planned=planned,
        n=done.size().reindex(table.index, fill_value=0),
        mean=done["value"].agg(exact.mean),
        sd=done["value"].agg(exact.deviation),
        best=done["value"].min() if smaller else done["value"].max(),
        **{name: done[name].agg(lambda values: exact.mean(values.dropna())) for name in means},
        **{cost: done[cost].first() for cost in COSTS},
    )


def best_run(runs: pd.DataFrame, smaller: bool) -> tuple[pd.Series, bool] | None:
    """The finished run to look at closely, and whether validation accuracy chose it; None where no run finished.

    Validation accuracy chooses where it was measured, the outcome elsewhere: the test set should not.
    """
    done = runs[runs["finished"]]
    known = ~(done[[param(key) for key in params_in(done)]] == NOT_LOGGED).any(axis=1)
    done = (done[known] if known.any() else done).reset_index(drop=True)
    if done.empty:
        return None
    validation = numbers(done, metric_column(VALIDATION))
    if validation.notna().any():
        return done.loc[validation.idxmax()], True
    return done.loc[done["value"].idxmin() if smaller else done["value"].idxmax()], False
