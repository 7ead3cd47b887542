"""How long an epoch takes on either side of a comparison."""

import math

import pandas as pd

from ablations.comparison.pairs import Comparison


def seconds_per_epoch(comparison: Comparison, runs: pd.DataFrame) -> tuple[float, float]:
    """Seconds of an epoch of the variant's runs and of the baseline's: of each run its median epoch, of each side the
    median run, which other work on the machine disturbs least.

    NaN, twice, for an interaction, which has four sides, and where a side has no times or nothing is paired.

    Args:
        comparison: whose pairs are taken.
        runs: with `run_id` and `epoch_s`, as `with_times` gives them.
    """
    unknown = math.nan, math.nan
    if len(comparison.factors) > 1 or not comparison.signs:
        return unknown
    times = runs.set_index("run_id")["epoch_s"].astype(float)
    variant, baseline = (float(times.reindex(comparison.runs_of(sign)).median()) for sign in (1, -1))
    return (variant, baseline) if variant == variant and baseline == baseline else unknown
