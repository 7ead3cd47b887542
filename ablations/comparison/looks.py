"""Looks: what p-values and intervals are worth to somebody who adds seeds and looks again.

Each look at a comparison spends a share of its error of 5 %: the first four fifths, every later one of the last fifth
as much as its new seeds are worth. The shares sum to less than one however often seeds are added and whatever was seen
before, so that by Bonferroni's inequality no number of looks makes more false verdicts than one may.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import TYPE_CHECKING

from ablations.comparison import tests
from ablations.comparison.tests import ALPHA, SignFlip
from ablations.errors import InputError
from ablations.tracking.columns import column, natural, param, tag, text
from ablations.tracking.study import look_numbers

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

FIRST = 0.8  # of the error, for the first look

LOOK = "look"
"""The column with the number of the look at which a run was there first, from 1."""


def share(n: int, pairs: Sequence[int] = ()) -> float:
    """The share w of the error that a look at n pairs may spend after looks at so many `pairs`.

    w₁ = 0.8, w_k = 0.2 · (n₁/n_(k−1) − n₁/n_k).
    """
    return (1 - FIRST) * (pairs[0] / pairs[-1] - pairs[0] / n) if pairs else FIRST


def next_look(n: int) -> int:
    """The number of pairs at which to look after a look at n: half as many again, as 8, 12, 18, 27, 40, 60."""
    return n + max(n // 2, 1)


def counted(seen: Sequence[int], comparisons: int) -> tuple[int, ...]:
    """How many pairs there were at each look that counts.

    Args:
        seen: for each pair the number of the look at which it was first there.
        comparisons: of the study.
    """
    pairs = (sum(at <= look for at in seen) for look in sorted(set(seen)))
    return tuple(dropwhile(lambda n: not can_reach(n, comparisons), pairs))


def can_reach(n: int, comparisons: int) -> bool:
    """Whether n pairs at the first look can be significant at all after the correction for so many comparisons."""
    return tests.smallest_p(n) * comparisons < ALPHA * FIRST


@dataclass(frozen=True)
class Looked:
    """What the looks at a comparison say together.

    Attributes:
        p: the smallest of the looks' p-values, each divided by the share of the error that it may spend; at most 1,
            NaN where there are no pairs.
        low: end of the interval in which those of all looks agree; in the metric's unit.
        high: its other end.
        pairs: how many there were at each look that counts.
        n: how many there are now.
    """

    p: float = math.nan
    low: float = -math.inf
    high: float = math.inf
    pairs: tuple[int, ...] = ()
    n: int = 0

    def again(
        self,
        sample: "ArrayLike",
        comparisons: int,
        flips: int = tests.FLIPS,
        rounding: "ArrayLike" = 0.0,
    ) -> "Looked":
        """This, and a look at a sample with further pairs; without any there is no other look.

        A look counts from where so many comparisons can be settled at all. One before that gives numbers to see, by
        which nothing is settled, and which later looks do not remember.

        Args:
            sample: the differences of all pairs that are there now.
            comparisons: of the study.
            flips: the most sign patterns looked at.
            rounding: the largest error that rounding can have made in each difference.
        """
        n = len(sample)
        if n == self.n:
            return self
        if not self.pairs and not can_reach(n, comparisons):
            test = tests.sign_flip(sample, FIRST * ALPHA, flips, rounding)
            return Looked(min(1.0, test.p / FIRST), test.low, test.high, (), n)
        weight = share(n, self.pairs)
        test = tests.sign_flip(sample, weight * ALPHA, flips, rounding)
        p = min(1.0, test.p / weight, self.p if self.pairs else 1.0)
        return Looked(
            p, *(self._narrowed(test) if self.pairs else (test.low, test.high)), (*self.pairs, n), n
        )

    def _narrowed(self, test: SignFlip) -> tuple[float, float]:
        """Where both intervals agree. Where they do not, which chance does in less than one study of twenty, the new
        one: it rests on all pairs."""
        low, high = max(self.low, test.low), min(self.high, test.high)
        return (low, high) if low <= high else (test.low, test.high)


def numbered(runs: "pd.DataFrame", looks: Sequence[str]) -> "pd.DataFrame":
    """Runs with a column `LOOK`, by the invocation of whose sweep each is a result, as `look_numbers` counts them.

    Args:
        runs: as the store's reader gives them.
        looks: the ids of the invocations whose report was compiled.
    """
    return runs.assign(**{LOOK: look_numbers(list(first_invocations(runs)), looks)})


def seen(runs: "pd.DataFrame", looks: Sequence[str]) -> "pd.Series":
    """Which runs somebody has seen in a report, as `numbered` takes them: first results of invocations up to the last
    look."""
    return first_invocations(runs) <= max(looks, default="")


def first_invocations(runs: "pd.DataFrame") -> "pd.Series":
    """For each run the id of the invocation of a sweep whose result it is; empty where it is that of none."""
    asked = column(runs, tag("sweep_id")).fillna("")
    return column(runs, tag("first_sweep_id")).fillna(asked).map(str)


def numbered_by_seeds(runs: "pd.DataFrame", seeds: Sequence[int]) -> "pd.DataFrame":
    """The same where somebody says at how many seeds he looked: in the order in which the last run of each began.

    Raises:
        InputError: the numbers do not grow.
    """
    if list(seeds) != sorted({each for each in seeds if each > 0}):
        shown = ",".join(map(str, seeds))
        raise InputError(f"--looks {shown}: numbers of seeds that grow are expected, such as 8,12,18")
    began: dict[str, object] = {}
    for run in runs.sort_values(["start_time", "run_id"]).to_dict("records"):
        seed = text(run.get(param("seed"))) or ""
        began.pop(seed, None)
        began[seed] = run["start_time"]
    order = {seed: place for place, seed in enumerate(sorted(began, key=lambda s: (began[s], natural(s))), 1)}
    at = column(runs, param("seed")).map(lambda seed: bisect_left(seeds, order[text(seed) or ""]) + 1)
    return runs.assign(**{LOOK: at})
