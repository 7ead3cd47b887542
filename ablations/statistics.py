"""From runs to numbers: which runs are compared, and what each variant reached.

Every step takes a frame and gives a frame. Runs are rows as the store's reader gives them; times are seconds, an
outcome is in its metric's own unit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablations.study import smaller_is_better
from ablations.tracking.columns import (
    NOT_LOGGED,
    column,
    natural,
    numbers,
    param,
    params_in,
    tag,
    text,
)
from ablations.tracking.columns import metric as metric_column

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

VALIDATION = "val/accuracy"
EPOCHS_TO_TARGET = "epochs_to_target"
EPOCH_TIME = "time/epoch_s"

COSTS = ("parameters", "connections", "macs")
"""What a network costs, in params `network.<cost>`."""

DERIVED = (*(param(f"network.{cost}") for cost in COSTS), param("dataset.root"), param("dataset.mirrors"))
"""Follow from the choices of components, which are compared themselves, or determine nothing."""


@dataclass(frozen=True)
class Selection:
    """The runs that one report covers, and what was left out.

    Attributes:
        runs: those that count.
        other_settings: of each run of an earlier invocation that has other settings the column of the first of them.
        repeated: how many runs were repeated by another of the same configuration and seed.
    """

    runs: pd.DataFrame
    other_settings: tuple[str, ...]
    repeated: int


def factors_of(runs: pd.DataFrame) -> tuple[str, ...]:
    """The keys that the newest invocation of a sweep varied, the seed aside.

    Runs that were found finished belong to the invocation that asked for them last.
    """
    order = runs.assign(invocation=column(runs, tag("sweep_id")).fillna(""))
    newest = order.sort_values(["invocation", "start_time", "run_id"]).iloc[-1]
    keys = [key.strip() for key in (text(newest.get(tag("factors"))) or "").split(",")]
    return tuple(dict.fromkeys(key for key in keys if key and key != "seed"))


def select(runs: pd.DataFrame, varied: Sequence[str]) -> Selection:
    """The runs of a sweep that belong together.

    The newest invocation sets the shared settings. A run of an older one counts where it has the same settings
    (more seeds, more levels). Of runs that repeat each other the newest FINISHED one counts, else the newest.

    Args:
        runs: the runs of one sweep, at least one.
        varied: the keys in which they may differ; missing values become `NOT_LOGGED`.
    """
    runs = runs.sort_values(["start_time", "run_id"], ignore_index=True)
    runs = runs.assign(
        **{param(key): column(runs, param(key)).fillna(NOT_LOGGED).astype(str) for key in varied}
    )
    invocation = column(runs, tag("sweep_id")).fillna("")
    newest = invocation == invocation.max()
    setting = pd.Series("", index=runs.index)
    setting[~newest] = _disagreements(runs[~newest], runs[newest], varied)
    foreign = setting != ""
    kept = _without_repetitions(runs[~foreign], varied)
    repeated = len(runs) - int(foreign.sum()) - len(kept)
    return Selection(kept.reset_index(drop=True), tuple(setting[foreign]), repeated)


def _without_repetitions(runs: pd.DataFrame, varied: Sequence[str]) -> pd.DataFrame:
    """The last of the runs of each configuration and seed.

    Runs are of the same configuration where they have the same `config_hash`; or the same params, seed included, if
    one of them has no hash, or they were made by different code: hashes name classes, which may move. Of runs
    without a seed none repeats another.
    """
    ours, code = column(runs, tag("config_hash")), column(runs, tag("code_hash"))
    derived = set(DERIVED) - {param(key) for key in varied}
    params = runs[sorted(map(param, params_in(runs)))].astype(object)
    params.loc[ours.notna(), params.columns.isin(derived)] = None
    same = pd.util.hash_pandas_object(params.where(params.notna(), ""), index=False).astype(str)
    same = same.where(column(runs, param("seed")).notna(), runs["run_id"])

    # Last comes what counts: finished before newer.
    order = runs["status"].eq("FINISHED").sort_values(kind="stable").index
    order = order[~ours.fillna(runs["run_id"]).loc[order].duplicated(keep="last")]
    ours, code, same = ours.loc[order], code.loc[order], same.loc[order]
    alike = code.notna() & ours.notna() & (code == code.groupby(same).transform("last"))
    return runs.loc[order[~same.duplicated(keep="last") | alike]].sort_index()


def _disagreements(older: pd.DataFrame, newest: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    """For each older run the column of the first setting that sets it apart from the newest invocation, else ''."""
    varied = [param(key) for key in factors]
    fixed = {*varied, *DERIVED, param("seed")}
    settings = [name for name in map(param, params_in(newest)) if name not in fixed]
    # A choice brings its own settings: optimizer=rmsprop has an optimizer.decay that no other has.
    own = tuple(f"{name}." for name in varied)
    shared = [
        name for name in settings if newest[name].nunique(dropna=False) == 1 and not name.startswith(own)
    ]
    values = newest[[*varied, *settings]].astype(object).where(newest[[*varied, *settings]].notna(), None)
    twins: dict[tuple[object, ...], dict[str, object]] = {}
    for row in values.to_dict("records"):
        twins[tuple(row[name] for name in varied)] = row
    common = values.iloc[-1].to_dict()
    digest = tag("data_sha256")
    data = set(column(newest, digest).dropna())

    found = []
    for row in older.astype(object).where(older.notna(), None).to_dict("records"):
        twin = twins.get(tuple(row[name] for name in varied))
        names, expected = (settings, twin) if twin else (shared, common)
        other = next((name for name in names if row[name] != expected[name]), "")
        if not other and row.get(digest) and data and row[digest] not in data:
            other = digest
        found.append(other)
    return found


def with_times(
    runs: pd.DataFrame, histories: pd.DataFrame, target: Mapping[str, object] | None = None
) -> pd.DataFrame:
    """Runs with `epoch_s` and `train_s`: seconds of the median epoch, and of all epochs; and with a metric
    `epochs_to_target`: the first epoch with `target["metric"]` at or beyond `target["value"]`.

    The median, because other work on the machine makes some epochs longer, and none shorter. A run that does not
    reach the target counts as one epoch more than it had; without epochs of that metric it has no value.
    """
    if target is not None:
        steps = histories[histories["metric"] == target["metric"]]
        small = smaller_is_better(str(target["metric"]))
        reached = steps[steps["value"] <= target["value"] if small else steps["value"] >= target["value"]]
        first = reached.groupby("run_id")["step"].min()
        first = first.reindex(steps["run_id"].unique()).fillna(steps.groupby("run_id")["step"].max() + 1)
        runs = runs.assign(**{metric_column(EPOCHS_TO_TARGET): runs["run_id"].map(first).astype(float)})
    times = histories[histories["metric"] == EPOCH_TIME].groupby("run_id")["value"].agg(["median", "sum"])
    return runs.assign(
        epoch_s=runs["run_id"].map(times["median"]).astype(float),
        train_s=runs["run_id"].map(times["sum"]).astype(float),
    )


def ranked(runs: pd.DataFrame, factors: Sequence[str], metric: str, smaller: bool) -> pd.DataFrame:
    """Runs with `finished`, `variant` (0 has the best mean of the metric) and `value`, in that order.

    A run is finished where its status says so and it has a finite value of the metric. Runs that did not log a
    factor are no variant that could lead: they come last.

    Args:
        runs: as `select` gives them.
        factors: the keys that make a variant.
        metric: its name.
        smaller: whether smaller values are better.
    """
    values = numbers(runs, metric_column(metric))
    finished = (runs["status"] == "FINISHED") & values.notna()
    keys = [param(key) for key in factors]
    group = runs.groupby(keys, sort=False).ngroup() if keys else pd.Series(0, index=runs.index)
    means = values[finished].groupby(group).mean() * (1 if smaller else -1)
    first = runs.groupby(group).head(1).assign(group=group)
    order = sorted(
        first.to_dict("records"),
        key=lambda row: (
            NOT_LOGGED in [row[key] for key in keys],
            means.get(row["group"], np.inf),
            [natural(row[key]) for key in keys],
        ),
    )
    rank = {row["group"]: place for place, row in enumerate(order)}
    frame = runs.assign(finished=finished, value=values.where(finished), variant=group.map(rank))
    seeds = column(runs, param("seed")).map(natural)
    place = sorted(
        frame.index,
        key=lambda i: (frame.at[i, "variant"], seeds[i], runs.at[i, "start_time"], runs.at[i, "run_id"]),
    )
    return frame.loc[place].reset_index(drop=True)


def variants(runs: pd.DataFrame, factors: Sequence[str], smaller: bool) -> pd.DataFrame:
    """One row per variant, best first, its index the variant's number.

    Columns: the factors' params, `planned` (runs), `n` (finished runs, on which the rest stands), `mean`, `sd` (with
    n − 1, NaN for one run), `best` of the metric, `epoch_s`, `train_s` (seconds), `parameters`, `connections`,
    `macs`, `epochs_to_target`.

    Args:
        runs: as `ranked` gives them; `epoch_s`, `train_s` and `epochs_to_target` as `with_times` does.
        factors: the keys that make a variant.
        smaller: whether smaller values are better.
    """
    everything = runs.groupby("variant")
    done = runs[runs["finished"]]
    done = done.assign(
        **{cost: numbers(done, param(f"network.{cost}")) for cost in COSTS},
        **{name: numbers(done, name) for name in ("epoch_s", "train_s")},
        epochs=numbers(done, metric_column(EPOCHS_TO_TARGET)),
    ).groupby("variant")
    table = pd.DataFrame({param(key): everything[param(key)].first() for key in factors})
    return table.reindex(range(everything.ngroups)).assign(
        planned=everything.size(),
        n=done.size().reindex(range(everything.ngroups), fill_value=0),
        mean=done["value"].mean(),
        sd=done["value"].std(),
        best=done["value"].min() if smaller else done["value"].max(),
        epoch_s=done["epoch_s"].mean(),
        train_s=done["train_s"].mean(),
        epochs_to_target=done["epochs"].mean(),
        **{cost: done[cost].first() for cost in COSTS},
    )


def curves(histories: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Learning curves over the seeds: `variant`, `metric`, `step`, `mean`, `low`, `high`, `n`.

    Low and high are the extremes over the finished runs. Values that are not finite are left out.
    """
    done = runs[runs["finished"]].set_index("run_id")["variant"]
    points = histories.assign(variant=histories["run_id"].map(done))
    points = points[points["variant"].notna() & numbers(points, "value").notna()]
    summary = points.groupby(["metric", "variant", "step"])["value"].agg(["mean", "min", "max", "count"])
    summary = summary.set_axis(["mean", "low", "high", "n"], axis=1).reset_index()
    return summary.astype({"variant": int})


def grids(table: pd.DataFrame, factors: Sequence[str], facets: int = 6) -> dict[str, pd.DataFrame]:
    """Mean outcome over the first two factors, one grid per level of the third, by its level.

    Without a third factor, or where it has more levels than `facets`, there is one grid, named ''. Further
    factors are averaged over, every variant with equal weight.
    """
    row, col, *more = (param(key) for key in factors)
    third = more[0] if more and table[more[0]].nunique() <= facets else None
    rows, cols = (sorted(table[key].unique(), key=natural) for key in (row, col))
    levels = sorted(table[third].unique(), key=natural) if third else [""]
    return {
        level: (table[table[third] == level] if third else table)
        .pivot_table(index=row, columns=col, values="mean", aggfunc="mean")
        .reindex(index=rows, columns=cols)
        for level in levels
    }


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


def confusion(labels: "ArrayLike", predictions: "ArrayLike", classes: int) -> "NDArray[np.int64]":
    """Counts of test images: rows are the true classes 0 … classes − 1, columns the predicted ones."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(np.asarray(labels), np.asarray(predictions), labels=np.arange(classes))
