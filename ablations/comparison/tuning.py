"""Trials: what each variant tried, which setting is best after so many of them, and what was not worth going on with.

A trial is one setting of a variant, trained on each seed of the tuning; its value is the mean of the validation metric
over these. None of the seeds is one that evaluates.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import pandas as pd

from ablations.comparison import exact
from ablations.comparison.outcomes import Outcome, with_outcomes
from ablations.tracking.accepted import is_level, is_number, list_of, or_none, with_keys
from ablations.tracking.columns import (
    OFFERED,
    TRIAL,
    TUNING,
    column,
    metric,
    natural,
    number,
    numbers,
    param,
    tag,
    text,
)

EDGE = 0.01
"""This near to an end of its range, as a part of it, a value is at its edge."""


_RANGE = with_keys({"low": is_number, "high": is_number}, {"log": is_level, "step": is_number})
_VALUES = with_keys({"values": list_of(or_none(is_level))}, {})


def _is_offer(value: Any) -> bool:
    return _RANGE(value) or _VALUES(value)


class State(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    UNFINISHED = "unfinished"
    """Some of its runs have no result yet, or failed otherwise."""


def trials(
    runs: pd.DataFrame,
    ids: Sequence[str],
    factors: Sequence[str],
    keys: Sequence[str],
    seeds: Sequence[int],
    metric_name: str,
    smaller: bool,
    most: int,
) -> pd.DataFrame:
    """One row per trial, variant by variant and in its order; one of a setting that was tried before has none.

    Columns: the params of factors and keys, `tuning`, `trial` (from 1), `state`, `value` (mean of the metric over the
    seeds, NaN unless complete), `best` (the best value up to here, NaN before there is one), `runs`, `seconds` (of all
    its runs), `offered` (by key, the range or the values).

    Args:
        runs: those of the trials, with the tags that these have.
        ids: of the tunings that count; of a variant that has several the first.
        factors: the params that make a variant.
        keys: the params that were chosen.
        seeds: of the tuning.
        metric_name: the validation metric.
        smaller: whether smaller values of it are better.
        most: how many trials of a variant count.
    """
    keys_of_row = [param(key) for key in (*factors, *keys)]
    if metric(metric_name) not in runs:
        runs = runs.assign(**{metric(metric_name): math.nan})
    runs = with_outcomes(runs, metric_name)
    runs = runs[column(runs, tag(TUNING)).isin(ids) & column(runs, param("seed")).isin(map(str, seeds))]
    runs = runs.assign(number=numbers(runs, tag(TRIAL)), **{name: column(runs, name) for name in keys_of_row})
    runs = runs[runs["number"] <= most]
    rows = []
    for variant, own in _by_variant(runs, factors):
        tuning = min(column(own, tag(TUNING)), key=list(ids).index)
        best = math.nan
        for trial, its in own[own[tag(TUNING)] == tuning].groupby("number"):
            its = its.sort_values(["start_time", "run_id"]).drop_duplicates(param("seed"), keep="last")
            state = _state(its, len(seeds))
            value = exact.mean(its["value"]) if state is State.COMPLETE else math.nan
            best = value if math.isnan(best) or is_better(value, best, smaller) else best
            row = dict(zip(map(param, factors), variant, strict=True))
            row |= {param(key): text(its[param(key)].iloc[0]) for key in keys}
            row |= {"tuning": tuning, "trial": int(trial), "state": state, "value": value, "best": best}
            seconds = exact.total(its["seconds"].dropna())
            rows.append({**row, "runs": len(its), "seconds": seconds, "offered": _offered(its)})
    columns = ["tuning", "trial", "state", "value", "best", "runs", "seconds", "offered"]
    return pd.DataFrame(rows, columns=[*keys_of_row, *columns])


def _by_variant(runs: pd.DataFrame, factors: Sequence[str]) -> Iterable[tuple[tuple[str, ...], pd.DataFrame]]:
    """The runs of each variant, in the natural order of their levels."""
    if not factors:
        return [((), runs)] if len(runs) else []
    groups = runs.groupby([param(key) for key in factors], sort=False)
    return sorted(groups, key=lambda each: [natural(level) for level in each[0]])


def _state(runs: pd.DataFrame, seeds: int) -> State:
    failures = set(column(runs, tag("failure")).dropna())
    if "diverged" in failures:
        return State.DIVERGED
    if "pruned" in failures:
        return State.PRUNED
    done = len(runs) == seeds and (runs["outcome"] == Outcome.FINISHED).all()
    return State.COMPLETE if done else State.UNFINISHED


def _offered(runs: pd.DataFrame) -> Mapping[str, Any]:
    try:
        found = json.loads(str(column(runs, tag(OFFERED)).iloc[0]))
    except ValueError:
        return {}
    found = found if isinstance(found, dict) else {}
    return {key: of for key, of in found.items() if _is_offer(of)}


def is_better(value: float, other: float, smaller: bool) -> bool:
    """Whether a value is better than another; NaN never is."""
    return value < other if smaller else value > other


def chosen(table: pd.DataFrame, factors: Sequence[str], smaller: bool, after: int) -> pd.DataFrame:
    """Of each variant the best of its first trials; a variant none of which is complete has no row.

    Args:
        table: as `trials` gives it.
        factors: the params that make a variant.
        smaller: whether smaller values are better.
        after: how many trials count. Of equal values the earlier one is chosen.
    """
    table = table[(table["trial"] <= after) & table["value"].notna()]
    ordered = table.sort_values(["value", "trial"], ascending=[smaller, True], kind="stable")
    keys = [param(key) for key in factors]
    first = ordered.drop_duplicates(keys) if keys else ordered.head(1)
    return first.sort_index()


def prefixes(most: int) -> list[int]:
    """1, 2, 4, 8 … trials, and all of them."""
    return sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), most})


def at_edge(value: object, offered: Mapping[str, Any]) -> bool:
    """Whether a value is at an end of what was offered: of a range, on its own scale, or of three numbers or more."""
    at = number(value)
    if math.isnan(at):
        return False
    if "values" in offered:
        found = sorted(each for each in map(number, offered["values"]) if not math.isnan(each))
        return len(found) > 2 and at in (found[0], found[-1])
    low, high = number(offered.get("low")), number(offered.get("high"))
    if not low < high:
        return False
    if offered.get("log"):
        low, high, at = math.log(low), math.log(high), math.log(at)
    return min(at - low, high - at) <= EDGE * (high - low)


def bounds(histories: pd.DataFrame, earlier: Sequence[str], epochs: int, skipped: int) -> list[float | None]:
    """By epoch the median of what earlier trials had reached there, as Optuna's MedianPruner takes it.

    A training is behind where its best value so far is worse than that. None for the first epochs, which are
    `skipped`, for the last, after which there is nothing to save, and where no trial has a value.

    Args:
        histories: of the metric: `run_id`, `step` (epoch, from 1), `value`.
        earlier: the ids of the runs of the complete trials, on one seed.
        epochs: of the training.
        skipped: so many epochs are never judged.
    """
    own = histories[histories["run_id"].isin(earlier)]
    medians = own.groupby("step")["value"].median()
    return [
        float(medians[epoch]) if skipped < epoch < epochs and epoch in medians.index else None
        for epoch in range(1, epochs + 1)
    ]
