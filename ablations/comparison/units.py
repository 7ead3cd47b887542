"""One run of a variant and a seed: equal numbers are equal, and nothing differs within a seed that nobody named."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from ablations.comparison.confounds import only_names
from ablations.comparison.outcomes import Outcome
from ablations.tracking.columns import NOT_LOGGED, column, natural, param, params_in, text
from ablations.tracking.direction import words_of
from ablations.tracking.spelling import is_number, respelled, same

NO_NUMBER = frozenset(["nan", "inf", "-inf", "infinity", "-infinity", "none", "null", ""])
"""Levels that may stand beside numbers."""
RANDOM = frozenset(["seed", "seeds", "state"])


@dataclass(frozen=True)
class Within:
    """A param that differs between runs of one variant and seed, although nobody named it.

    Attributes:
        key: without `params.`.
        values: those that it has there, in order.
        seeds: where it differs, in order.
        everywhere: whether it differs in every seed that has several runs of a variant.
    """

    key: str
    values: tuple[str, ...]
    seeds: tuple[str, ...]
    everywhere: bool


def with_equal_numbers(
    runs: pd.DataFrame, keys: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, tuple[tuple[str, ...], ...]]]:
    """Runs in which a number has one spelling, and for each key the spellings that were taken as one.

    The seed is read as a number wherever it is one; any other param where all its values are numbers, so that a commit
    `1e5` stays a text.

    Args:
        runs: as the reader gives them.
        keys: the params that tell runs apart, besides the seed.
    """
    found: dict[str, tuple[tuple[str, ...], ...]] = {}
    for key in dict.fromkeys((*keys, "seed")):
        values = column(runs, param(key)).map(text)
        logged = set(values.dropna())
        if key != "seed" and not _all_numbers(logged):
            continue
        spelled = respelled(logged)
        if not spelled:
            continue
        runs = runs.assign(**{param(key): values.map(lambda value, to=spelled: to.get(value, value))})
        groups = {
            chosen: tuple(sorted(t for t, to in spelled.items() if to == chosen))
            for chosen in spelled.values()
        }
        found[key] = tuple(groups[chosen] for chosen in sorted(groups, key=natural))
    return runs, found


def _all_numbers(levels: Iterable[str]) -> bool:
    """Whether all are numbers, or words for none."""
    return all(is_number(level) or level.lower() in NO_NUMBER for level in levels)


def level_of(given: object, levels: Sequence[str]) -> str:
    """The level that is meant: itself where there is one, else that of the same number where all are numbers."""
    wanted = str(given)
    if wanted not in levels and _all_numbers(levels):
        return next((level for level in levels if same(level, wanted)), wanted)
    return wanted


def differing_within(
    runs: pd.DataFrame, varied: Sequence[str], ignore: Sequence[str] = (), seeded: bool = True
) -> tuple[Within, ...]:
    """The params that differ between finished runs of one variant and seed.

    Args:
        runs: with `outcome`, as `outcomes.with_outcomes` gives it.
        varied: the params that tell the runs of one seed apart.
        ignore: params that only name a run, besides those known.
        seeded: whether a seed tells runs of a variant apart; else all runs of a variant are looked at together, and a
            param that has `seed` or `state` among its words may differ.
    """
    done = runs[runs["outcome"] == Outcome.FINISHED]
    seed = column(done, param("seed")).map(text) if seeded else pd.Series("", done.index)
    done, seed = done[seed.notna()], seed[seed.notna()]
    cells = [column(done, param(key)).map(text).fillna(NOT_LOGGED) for key in varied]
    several = pd.DataFrame(dict(enumerate([*cells, seed])), done.index).duplicated(keep=False)
    done, seed = done[several], seed[several]
    if done.empty:
        return ()
    groups = [each[several] for each in (*cells, seed)]
    found = []
    for key in sorted(set(params_in(done)) - {*varied, "seed"}):
        if not seeded and RANDOM & set(words_of(key)):
            continue
        values = done[param(key)].map(text)
        different = values.fillna(NOT_LOGGED).groupby(groups).transform("nunique") > 1
        levels = tuple(sorted(set(values[different].fillna(NOT_LOGGED)), key=natural))
        if (
            different.any()
            and not only_names(key, [text(level) for level in levels], ignore)
            and not _equal(levels)
        ):
            seeds = tuple(sorted(set(seed[different]), key=natural))
            found.append(Within(key, levels, seeds, len(seeds) == seed.nunique()))
    return tuple(found)


def _equal(levels: Sequence[str]) -> bool:
    return all(same(levels[0], level) for level in levels[1:])
