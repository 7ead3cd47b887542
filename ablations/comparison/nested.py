"""Nested runs: a parent that only holds what its children reached is no run of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ablations.tracking.columns import column, is_finite, numbers, param, tag, text
from ablations.tracking.columns import metric as metric_column

PARENT = tag("mlflow.parentRunId")
AGREES = 1e-6
"""Relative difference below which a parent's value is one of its children's: some are rounded."""


@dataclass(frozen=True)
class Nested:
    """Which nested runs count.

    Attributes:
        runs: those that count.
        parents: the ids of parents that only hold what their children reached, and are left out.
        parts: the ids of children that are only parts of their parents, and are left out.
        unclear: the ids of parents that have a result of their own beside their children's.
    """

    runs: pd.DataFrame
    parents: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()


def without_parents(runs: pd.DataFrame, factors: Sequence[str], metric: str) -> Nested:
    """The runs that are compared where runs are nested, however deep.

    A child is a run of its own where it has all factors and a value of the metric. A parent of such children is left
    out where it lacks a factor, the metric or the seed that its children have, or where its value is the best, the
    worst, the mean, the median or the last of theirs; else it is unclear which are meant. Where no child is a run of
    its own, they are parts of their parent, if that is one.

    Args:
        runs: as the reader gives them; children of parents that are not among them are runs like others.
        factors: the params that are compared.
        metric: the outcome.
    """
    frame = runs.reset_index(drop=True)
    at = {run_id: i for i, run_id in enumerate(frame["run_id"])}
    children: dict[int, list[int]] = {}
    for i, parent in enumerate(column(frame, PARENT).map(text)):
        if parent in at and at[parent] != i:
            children.setdefault(at[parent], []).append(i)
    if not children:
        return Nested(runs)
    value = numbers(frame, metric_column(metric)).to_numpy()
    logged = [column(frame, param(key)).map(text).notna() for key in factors]
    whole = np.logical_and.reduce(logged) if logged else np.ones(len(frame), bool)
    own = whole & np.array([is_finite(each) for each in value], bool)
    seeded = column(frame, param("seed")).map(text).notna().to_numpy()
    parents, parts, unclear = set(), set(), set()
    for parent in children:
        below = _descendants(parent, children)
        results = [i for i in below if own[i]]
        if not results:
            if own[parent]:
                parts |= {i for i in below if not whole[i]}
        elif (
            not own[parent]
            or (any(seeded[results]) and not seeded[parent])
            or _sums_up(value[parent], value[results])
        ):
            parents.add(parent)
        else:
            unclear.add(parent)
    ids = frame["run_id"]
    kept = ~frame.index.isin([*parents, *parts])
    named = (tuple(ids[sorted(found)]) for found in (parents, parts - parents, unclear))
    return Nested(frame[kept].reset_index(drop=True), *named)


def _descendants(parent: int, children: Mapping[int, Sequence[int]]) -> list[int]:
    found: dict[int, None] = {}
    waiting = list(children[parent])
    while waiting:
        each = waiting.pop(0)
        if each not in found and each != parent:
            found[each] = None
            waiting += children.get(each, ())
    return list(found)


def _sums_up(value: float, of: np.ndarray) -> bool:
    sums = np.array([of.max(), of.min(), of.mean(), np.median(of), of[-1]])
    return bool(np.isclose(sums, value, rtol=AGREES, atol=0).any())
