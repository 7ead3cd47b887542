"""From runs to numbers: which runs are compared, and what each variant reached.

Every step takes a frame and gives a frame. Runs are rows as the store's reader gives them (`params.<key>`,
`metrics.<name>`, `tags.<key>`); times are seconds, an outcome is in its metric's own unit.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablations.study import smaller_is_better

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

VALIDATION = "metrics.val/accuracy"
EPOCHS_TO_TARGET = "epochs_to_target"
EPOCH_TIME = "time/epoch_s"
NOT_LOGGED = "(not logged)"

# Follow from the choices of components, which are compared themselves, or determine nothing.
DERIVED = tuple(
    f"params.{key}"
    for key in (
        "network.parameters",
        "network.connections",
        "network.macs",
        "dataset.root",
        "dataset.mirrors",
    )
)
# MLflow's stores write infinity as the largest float64.
INFINITE = 1e308


@dataclass(frozen=True)
class Comparison:
    """The runs that one report covers, and what was left out in words."""

    runs: pd.DataFrame
    left_out: tuple[str, ...]


def natural(text: object) -> tuple[tuple[int, float, str], ...]:
    """Sort key that puts numbers in numeric order: `2` before `10`, `1e-3` before `0.01`."""
    try:
        return ((0, float(str(text)), ""),)
    except ValueError:
        parts = re.split(r"(\d+)", str(text))
        return ((1, 0.0, ""), *((0, float(p), "") if p.isdecimal() else (1, 0.0, p) for p in parts))


def column(runs: pd.DataFrame, name: str) -> pd.Series:
    """The named column, or one of missing values where no run logged it."""
    return runs[name] if name in runs else pd.Series(np.nan, index=runs.index, dtype=object)


def numbers(runs: pd.DataFrame, name: str) -> pd.Series:
    """The named column as floats; what is absent, not a number or infinite is NaN."""
    values = pd.to_numeric(column(runs, name), errors="coerce").astype(float)
    return values.where(values.abs() < INFINITE)


def factors_of(runs: pd.DataFrame) -> tuple[str, ...]:
    """The keys that the newest invocation of a sweep varied, the seed aside."""
    text = str(_newest(runs).get("tags.factors") or "")
    keys = [key.strip() for key in text.split(",")] if text != "nan" else []
    return tuple(dict.fromkeys(key for key in keys if key and key != "seed"))


def _newest(runs: pd.DataFrame) -> pd.Series:
    """A run of the newest invocation; runs that were found finished belong to the one that asked for them last."""
    order = runs.assign(invocation=column(runs, "tags.sweep_id").fillna(""))
    return order.sort_values(["invocation", "start_time", "run_id"]).iloc[-1]


def select(runs: pd.DataFrame, varied: Sequence[str]) -> Comparison:
    """The runs of a sweep that belong together.

    The newest invocation sets the shared settings. A run of an older one counts where it has the same settings
    (more seeds, more levels). Of runs with the same `config_hash` (of every param, where none was logged) the
    newest FINISHED one counts, else the newest; runs with neither a hash nor a seed are no repetitions.

    Args:
        runs: the runs of one sweep, at least one.
        varied: the keys in which they may differ; missing values become `NOT_LOGGED`.
    """
    runs = runs.sort_values(["start_time", "run_id"], ignore_index=True)
    runs = runs.assign(
        **{f"params.{key}": column(runs, f"params.{key}").fillna(NOT_LOGGED).astype(str) for key in varied}
    )

    invocation = column(runs, "tags.sweep_id").fillna("")
    newest = invocation == invocation.max()
    disagreement = pd.Series("", index=runs.index)
    disagreement[~newest] = _disagreements(runs[~newest], runs[newest], varied)
    foreign = disagreement != ""
    left_out = []
    if foreign.any():
        keys = sorted(set(disagreement[foreign]))
        named = ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
        left_out.append(f"{_count(foreign.sum(), 'earlier run')} with other settings ({named})")

    runs = runs[~foreign]
    # Last comes what counts: finished before newer.
    order = (
        runs.assign(ended_well=runs["status"] == "FINISHED").sort_values("ended_well", kind="stable").index
    )
    repeated = _identity(runs).loc[order].duplicated(keep="last").reindex(runs.index)
    if repeated.any():
        left_out.append(
            f"{_count(repeated.sum(), 'run')} repeated by another of the same configuration and seed"
        )
    return Comparison(runs[~repeated].reset_index(drop=True), tuple(left_out))


def _identity(runs: pd.DataFrame) -> pd.Series:
    """What two trainings of the same thing have in common."""
    params = runs[sorted(name for name in runs if name.startswith("params."))]
    everything = pd.util.hash_pandas_object(params.astype(object).where(params.notna(), ""), index=False)
    seeded = column(runs, "params.seed").notna()
    return column(runs, "tags.config_hash").fillna(everything.astype(str).where(seeded, runs["run_id"]))


def _disagreements(older: pd.DataFrame, newest: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    """For each older run the first setting that sets it apart from the newest invocation, else ''."""
    varied = [f"params.{key}" for key in factors]
    fixed = {*varied, *DERIVED, "params.seed"}
    settings = [name for name in newest.columns if name.startswith("params.") and name not in fixed]
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
    data = set(column(newest, "tags.data_sha256").dropna())

    found = []
    for row in older.astype(object).where(older.notna(), None).to_dict("records"):
        twin = twins.get(tuple(row[name] for name in varied))
        names, expected = (settings, twin) if twin else (shared, common)
        other = next((name for name in names if row[name] != expected[name]), "")
        if not other and row.get("tags.data_sha256") and data and row["tags.data_sha256"] not in data:
            other = "the data"
        found.append(other.removeprefix("params."))
    return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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
        runs = runs.assign(**{f"metrics.{EPOCHS_TO_TARGET}": runs["run_id"].map(first).astype(float)})
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
        metric: its name without `metrics.`.
        smaller: whether smaller values are better.
    """
    values = numbers(runs, f"metrics.{metric}")
    finished = (runs["status"] == "FINISHED") & values.notna()
    keys = [f"params.{key}" for key in factors]
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
    seeds = column(runs, "params.seed").map(natural)
    place = sorted(
        frame.index,
        key=lambda i: (frame.at[i, "variant"], seeds[i], runs.at[i, "start_time"], runs.at[i, "run_id"]),
    )
    return frame.loc[place].reset_index(drop=True)


def variants(runs: pd.DataFrame, factors: Sequence[str], smaller: bool) -> pd.DataFrame:
    """One row per variant, best first, its index the variant's number.

    Columns: `params.<factor>`, `planned` (runs), `n` (finished runs, on which the rest stands), `mean`, `sd` (with
    n − 1, NaN for one run), `best` of the metric, `epoch_s`, `train_s` (seconds), `parameters`, `connections`,
    `macs`, `epochs_to_target`.

    Args:
        runs: as `ranked` gives them; `epoch_s`, `train_s` and `epochs_to_target` as `with_times` does.
        factors: the keys that make a variant.
        smaller: whether smaller values are better.
    """
    everything = runs.groupby("variant")
    costs = ("parameters", "connections", "macs")
    done = runs[runs["finished"]]
    done = done.assign(
        **{name: numbers(done, f"params.network.{name}") for name in costs},
        **{name: numbers(done, name) for name in ("epoch_s", "train_s")},
        epochs=numbers(done, f"metrics.{EPOCHS_TO_TARGET}"),
    ).groupby("variant")
    table = pd.DataFrame({f"params.{key}": everything[f"params.{key}"].first() for key in factors})
    return table.reindex(range(everything.ngroups)).assign(
        planned=everything.size(),
        n=done.size().reindex(range(everything.ngroups), fill_value=0),
        mean=done["value"].mean(),
        sd=done["value"].std(),
        best=done["value"].min() if smaller else done["value"].max(),
        epoch_s=done["epoch_s"].mean(),
        train_s=done["train_s"].mean(),
        epochs_to_target=done["epochs"].mean(),
        **{name: done[name].first() for name in costs},
    )


def curves(histories: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Learning curves over the seeds: `variant`, `metric`, `step`, `mean`, `low`, `high`, `n`.

    Low and high are the extremes over the finished runs. Values that are not finite are left out.
    """
    done = runs[runs["finished"]].set_index("run_id")["variant"]
    points = histories.assign(variant=histories["run_id"].map(done))
    points = points[points["variant"].notna() & (points["value"].abs() < INFINITE)]
    summary = points.groupby(["metric", "variant", "step"])["value"].agg(["mean", "min", "max", "count"])
    summary = summary.set_axis(["mean", "low", "high", "n"], axis=1).reset_index()
    return summary.astype({"variant": int})


def grids(table: pd.DataFrame, factors: Sequence[str], facets: int = 6) -> dict[str, pd.DataFrame]:
    """Mean outcome over the first two factors, one grid per level of the third, by its level.

    Without a third factor, or where it has more levels than `facets`, there is one grid, named ''. Further
    factors are averaged over, every variant with equal weight.
    """
    row, col, *more = (f"params.{key}" for key in factors)
    third = more[0] if more and table[more[0]].nunique() <= facets else None
    rows, cols = (sorted(table[key].unique(), key=natural) for key in (row, col))
    levels = sorted(table[third].unique(), key=natural) if third else [""]
    return {
        level: (table[table[third] == level] if third else table)
        .pivot_table(index=row, columns=col, values="mean", aggfunc="mean")
        .reindex(index=rows, columns=cols)
        for level in levels
    }


def best_run(runs: pd.DataFrame, label: str, smaller: bool) -> tuple[pd.Series, str] | None:
    """The finished run to look at closely, and how it was chosen; None where no run finished.

    Validation accuracy chooses where it was measured: the test set must not. `label` is the metric in words.
    """
    done = runs[runs["finished"]]
    known = ~(done.filter(regex=r"^params\.") == NOT_LOGGED).any(axis=1)
    done = (done[known] if known.any() else done).reset_index(drop=True)
    if done.empty:
        return None
    validation = numbers(done, VALIDATION)
    if validation.notna().any():
        return done.loc[validation.idxmax()], "the highest validation accuracy"
    chosen = done["value"].idxmin() if smaller else done["value"].idxmax()
    return done.loc[chosen], f"the best {label} (no validation accuracy was logged)"


def confusion(labels: "ArrayLike", predictions: "ArrayLike", classes: int) -> "NDArray[np.int64]":
    """Counts of test images: rows are the true classes 0 … classes − 1, columns the predicted ones."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(np.asarray(labels), np.asarray(predictions), labels=np.arange(classes))
