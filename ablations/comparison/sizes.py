"""Factors that say how many examples were trained on, and how the outcome changes with them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ablations.comparison import exact, tests
from ablations.tracking.columns import number, param
from ablations.tracking.direction import listed, words_of

NAMES = listed(
    """
    train_images training_images n_train_images num_train_images train_samples training_samples n_train_samples
    num_train_samples num_training_samples train_examples training_examples n_train_examples num_train_examples
    num_training_examples n_train n_training num_train num_training train_size training_size train_set_size
    training_set_size train_tokens training_tokens
    """
)
"""Last parts of keys that say how much was trained on, their words joined by `_`."""

FEWEST = 3
"""Sizes that make a line; through two any law goes."""


def is_size(key: str) -> bool:
    """Whether a factor says by its name how many examples were trained on."""
    return "_".join(words_of(re.split(r"[./:]", key)[-1])) in NAMES


def sizes_of(levels: Sequence[str]) -> dict[str, float]:
    """The levels as numbers, in order; empty where they are not at least `FEWEST` positive numbers."""
    sizes = {level: number(level) for level in levels}
    if len(set(sizes.values())) < FEWEST or not all(0 < size < math.inf for size in sizes.values()):
        return {}
    return dict(sorted(sizes.items(), key=lambda item: item[1]))


@dataclass(frozen=True)
class Change:
    """What each doubling of the size makes of an outcome, as a share of it: −0.3 for three tenths less.

    Attributes:
        mean: over the seeds, of the logarithms.
        low: the lower end of the 95 % interval of that; NaN with fewer than six seeds.
        high: the upper end.
        n: seeds.
    """

    mean: float
    low: float
    high: float
    n: int


def change_per_doubling(runs: pd.DataFrame, factor: str, sizes: Mapping[str, float]) -> Change | None:
    """What a doubling makes of the outcome: the slope of its logarithm over that of the size, by least squares.

    Seeds are what was repeated, so that each has a slope of its own, and the interval of their mean is that of the
    sign-flip test, as everywhere. A seed counts where it has a result above 0 at every size; None without such a seed.

    Args:
        runs: of one setting of all other factors, with params, `value` and `finished`.
        factor: the key of the size.
        sizes: by its levels, at least two.
    """
    done = runs[runs["finished"].astype(bool)]
    columns = {"size": done[param(factor)].astype(str).map(sizes), "seed": done[param("seed")].astype(str)}
    values = pd.DataFrame({**columns, "value": pd.to_numeric(done["value"]).astype(float)})
    drawn = sorted(set(sizes.values()))
    table = values.groupby(["seed", "size"])["value"].mean().unstack().reindex(columns=drawn)
    table = table[(table > 0).all(axis=1)]
    if table.empty:
        return None
    doublings = np.log2(drawn)
    doublings -= doublings.mean()
    slopes = np.log2(table.to_numpy()) @ doublings / (doublings @ doublings)
    test = tests.sign_flip(slopes)
    mean, low, high = (
        2.0**slope - 1 if math.isfinite(slope) else math.nan
        for slope in (exact.mean(slopes), test.low, test.high)
    )
    return Change(mean, low, high, len(slopes))
